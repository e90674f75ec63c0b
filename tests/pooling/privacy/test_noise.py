"""No patient moves the weighted sums by more than 1, whatever his films are; what the key holder does afterwards needs no film."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdl.errors import ConfigError, DataError
from ppdl.pooling.privacy.noise import Noise, kept_rows, moved
from ppdl.pooling.privacy.promise import Privacy
from ppdl.pooling.ridge import fit_ridge
from ppdl.pooling.sums import sums_of

pytest.importorskip("opendp", reason="the extra `privacy` is not installed")


def noise(num_features=4, num_hospitals=3, **change):
    rules = {"epsilon": 8.0, "delta": 1e-6, "colluders": 1, "films_per_patient": 1, "clip": 0.25} | change
    return Noise(Privacy(**rules), num_hospitals, 3, num_features, 12)


def films(seed, num_films, num_features):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4096, (num_films, num_features)), rng.integers(0, 3, num_films)


EXTREME = st.lists(st.lists(st.sampled_from([0, 1, 2047, 2048, 2049, 4095]), min_size=3, max_size=3), min_size=1, max_size=4)


@settings(deadline=None)
@given(st.integers(0, 2**32), EXTREME, st.sampled_from([0.01, 0.125, 0.25, 1.0, 1.7]), st.integers(1, 3))
def test_neighbours_differ_by_at_most_the_stated_bound(seed, odd, clip, most):
    """Films of one patient, drawn or at the ends of their range, counted or not, beside those of others."""
    made = noise(3, clip=clip, films_per_patient=most)
    features, labels = films(seed, 6, 3)
    own = np.array(odd)
    own_labels = np.full(len(own), seed % 3)  # of one class they add up most
    kept = kept_rows(np.zeros(len(own), int), most)
    both = np.concatenate([features, own[kept]]), np.concatenate([labels, own_labels[kept]])
    differ = (made.sums(*both) - made.sums(features, labels)) * made.weights
    assert np.linalg.norm(differ) <= 1 + 1e-12
    assert (np.abs(made.sums(*both)) <= len(both[1]) * made.film).all()


def test_the_bound_is_reached():
    made = noise(4, films_per_patient=2)
    film = np.array([[2048 + made.length, 2048, 2048, 2048]])
    alone = made.sums(np.repeat(film, 2, axis=0), np.array([1, 1]))
    assert np.linalg.norm(alone * made.weights) == pytest.approx(1, rel=1e-9)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.002, 0.2, 0.9]))
def test_no_clipped_film_is_longer_than_the_bound_and_short_ones_stay(seed, clip):
    made, (features, _) = noise(5, clip=clip), films(seed, 30, 5)
    about, before = made.clipped(features) - 2048, features - 2048
    assert (about**2).sum(axis=1).max() <= made.length**2
    short = (before**2).sum(axis=1) <= made.length**2
    assert (about[short] == before[short]).all() and (about * before >= 0).all()
    far = ~short
    wanted = before[far] * (made.length / np.linalg.norm(before[far], axis=1, keepdims=True))
    assert np.abs(about[far] - wanted).max(initial=0) < 1 + made.length / np.linalg.norm(before[far], axis=1).min(initial=np.inf)


def test_sums_are_exact_with_noise_subtracted_and_offset_undone():
    made, (features, labels) = noise(), films(1, 30, 4)
    clear = sums_of(made.clipped(features), labels, num_classes=3, feature_bits=12)
    drawn = [made.draw() for _ in range(3)]
    parts = [made.sums(features[part], labels[part]) for part in np.split(np.arange(30), 3)]
    released = [part + own + made.offset(10, 1) for part, own in zip(parts, drawn, strict=True)]
    assert min(map(np.min, released)) >= 0
    total = sum(released) - made.offset(30, 3) - sum(drawn)
    assert total.tolist() == moved(clear, -2048).flat().tolist()
    assert moved(moved(clear, -2048), 2048).flat().tolist() == clear.flat().tolist()


def test_a_hospital_s_share_of_the_noise_and_what_one_alone_keeps():
    one, all_but_one = noise(num_hospitals=5, colluders=1), noise(num_hospitals=5, colluders=4)
    assert one.own_scales * 2 == pytest.approx(one.scales) and all_but_one.own_scales.tolist() == all_but_one.scales.tolist()
    assert all_but_one.epsilon_alone == pytest.approx(8, rel=0.01) and all_but_one.epsilon_alone <= 8
    assert one.epsilon_alone > 15


def test_draws_beyond_the_tail_are_moved_to_its_end(monkeypatch):
    made = noise()
    monkeypatch.setattr("ppdl.pooling.privacy.noise.discrete_gaussian", lambda scales: np.full(len(scales), -(2**60)))
    most = np.ceil(16 * made.own_scales).astype(int)
    assert made.draw().tolist() == (-most).tolist()
    assert (made.offset(0, 1) + made.draw()).tolist() == [0] * len(most)


def test_a_repaired_total_gives_a_head_and_has_no_direction_below_the_noise():
    made, rng = noise(6), np.random.default_rng(4)
    labels = rng.integers(0, 3, 900)
    apart = np.where(np.arange(6) % 3 == labels[:, None], 2500, 1800)
    features = np.clip(rng.normal(apart, 250), 0, 4095).astype(int)
    noised = made.sums(features, labels) + sum(made.draw() for _ in range(3))
    total = made.opened(noised, 900, 3)
    within = total.gram - total.class_sums.T @ (total.class_sums / total.class_counts[:, None])
    assert np.linalg.eigvalsh(within)[0] > 0.999 * made.radius(3)
    head, _ = fit_ridge(total, [0.01, 0.1], class_names=("a", "b", "c"), backbone={})
    hits = head.logits(head.quantise(features / 4095)).argmax(axis=1) == labels
    assert hits.mean() > 0.8


def test_totals_that_no_films_and_noise_give_are_refused():
    made, (features, labels) = noise(), films(1, 200, 4)
    honest = made.sums(features, labels)
    made.opened(honest, 200, 3)
    for place, message in ((0, "no sum exceeds"), (-1, "no sum exceeds")):
        wrong = honest.copy()
        wrong[place] += 2**40
        with pytest.raises(DataError, match=message):
            made.opened(wrong, 200, 3)
    lost = honest.copy()
    lost[0] = 0
    with pytest.raises(DataError, match="a class has fewer films in the total than noise"):
        made.opened(lost, 200, 3)


def test_too_many_features_and_no_length_are_refused():
    with pytest.raises(ConfigError, match=r"at most 64 features, got 65: set backbone.num_features"):
        noise(65)
    with pytest.raises(ConfigError, match=r"privacy.clip must leave a length .* got 0.0001"):
        noise(clip=0.0001)


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(1, 3))
def test_the_first_films_of_a_patient_are_kept(groups, most):
    expected = [groups[:i].count(group) < most for i, group in enumerate(groups)]
    assert kept_rows(np.array(groups, int), most).tolist() == expected
