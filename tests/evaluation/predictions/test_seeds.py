"""Intervals of several training seeds: their laws, the method's own formula, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri, stdtrit

from benchmarks.coverage_seeds import ACCURACIES, AREAS, PAIRS, Study, held
from ppdl.errors import DataError
from ppdl.evaluation.measures.metrics import METRICS, evaluate
from ppdl.evaluation.measures.statistics import compare
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.predictions.seeds import Seeded, Spread, pool_seeds, seeds_of

NUM_FOLDS = 3


def networks(num_seeds=3, num_images=60, group_size=2, seed=0, skill=2.0, apart=1.0):
    """Return predictions of one run with so many seeds, which agree on the hard films: `apart` is what each network has of its own."""
    rng = np.random.default_rng(seed)
    groups = np.arange(num_images) // group_size
    labels = groups % 3
    shared = rng.normal(size=(num_images, 3)) + skill * np.eye(3)[labels]
    runs = [Predictions(labels, shared + apart * rng.normal(size=(num_images, 3)), groups, np.arange(num_images), ("A", "B", "C"))
            for _ in range(num_seeds)]  # fmt: skip
    return seeded(runs, groups % NUM_FOLDS)


def seeded(runs, folds):
    first, *others = runs
    return Seeded(first.labels, first.logits, first.groups, first.image_ids, first.class_names, folds, tuple(others))


def ends(found, name="accuracy"):
    return found[f"{name}_low"], found[f"{name}_high"]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 3))
def test_seeds_that_change_nothing_leave_the_intervals_of_one(seed, num_seeds, group_size):
    runs = networks(num_seeds, group_size=group_size, seed=seed, apart=0.0)
    one, found = evaluate(seeds_of(runs)[0]), evaluate(runs)
    other = networks(num_seeds, group_size=group_size, seed=seed, skill=1.0, apart=0.0)
    for name in METRICS:
        assert [found[key] for key in (name, f"{name}_low", f"{name}_high")] == pytest.approx(
            [one[key] for key in (name, f"{name}_low", f"{name}_high")], abs=1e-9
        )
        assert found[f"{name}_seed_share"] == pytest.approx(0, abs=1e-9)
    wide, narrow = compare(other, runs, margin=0.02), compare(seeds_of(other)[0], seeds_of(runs)[0], margin=0.02)
    assert (wide.difference, wide.low, wide.high) == pytest.approx((narrow.difference, narrow.low, narrow.high), abs=1e-9)
    assert wide.verdict == narrow.verdict and wide.num_seeds == num_seeds and narrow.seed_share is None


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_more_of_the_same_seeds_never_widen_and_the_narrow_interval_lies_inside(seed):
    runs = networks(3, seed=seed)
    twice = seeded([*seeds_of(runs), *seeds_of(runs)], runs.folds)
    found, again = evaluate(runs), evaluate(twice)
    for name in ("accuracy", "auroc"):
        (low, high), (inner_low, inner_high) = ends(found, name), ends(again, name)
        assert low <= inner_low + 1e-9 and inner_high <= high + 1e-9
        assert again[name] == pytest.approx(found[name])
        assert 0 <= found[f"{name}_seed_share"] <= 1


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_the_numbers_of_folds_and_seeds_and_the_order_of_images_and_classes_mean_nothing(seed):
    rng, runs = np.random.default_rng(seed), networks(3, seed=seed)
    order, classes, renamed = rng.permutation(len(runs)), rng.permutation(3), rng.permutation(NUM_FOLDS) + 5
    places = np.argsort(classes)
    moved = [
        Predictions(places[one.labels][order], one.logits[:, classes][order], one.groups[order], one.image_ids[order], ("x", "y", "z"))
        for one in rng.permutation(np.array(seeds_of(runs), object))
    ]
    found, again = evaluate(runs), evaluate(seeded(moved, renamed[runs.folds][order]))
    for name in METRICS:
        for key in (name, f"{name}_low", f"{name}_high", f"{name}_seed_share"):
            assert again[key] == pytest.approx(found[key], abs=1e-6)


def test_the_variance_is_that_of_obuchowski_and_rockette():
    """Accuracy by films: MS of the folds' shares of hits over S, plus the mean covariance of two seeds' errors over films."""
    runs, num_images = networks(4, num_images=90, group_size=1, seed=3), 90
    right = np.stack([one.predicted == one.labels for one in seeds_of(runs)]).astype(float)
    values = np.concatenate([right.mean(axis=1, keepdims=True), (right.sum(axis=1, keepdims=True) - right) / (num_images - 1)], axis=1)
    spread = Spread.of(values, runs.folds)
    hits = np.stack([right[:, runs.folds == k].sum(axis=1) for k in range(NUM_FOLDS)], axis=1) / num_images
    between = hits.var(axis=0, ddof=1).sum()
    covariance = np.cov(right) / num_images
    shared, own = covariance[~np.eye(4, dtype=bool)].mean(), np.trace(covariance) / 4
    assert (spread.seeds, spread.films) == pytest.approx((between / 4, shared))
    assert spread.seed_share == pytest.approx(between / 4 / (between / 4 + shared))
    lacking = (stdtrit(NUM_FOLDS * 3, 0.975) ** 2 * between - ndtri(0.975) ** 2 * (own - shared)) / 4
    assert spread.half == pytest.approx(np.sqrt(max(lacking, 0)))


def test_networks_that_differ_widen_the_interval_and_are_named():
    rng, runs = np.random.default_rng(0), networks(3, num_images=600, group_size=1, apart=0.0)
    effect = 2.5 * rng.normal(size=(3, NUM_FOLDS))  # a network that is good or bad on all of its fold
    apart = [
        Predictions(
            one.labels, one.logits + effect[s, runs.folds][:, None] * np.eye(3)[one.labels], one.groups, one.image_ids, one.class_names
        )
        for s, one in enumerate(seeds_of(runs))
    ]
    found = evaluate(seeded(apart, runs.folds))
    narrow = [evaluate(one) for one in apart]
    assert found["accuracy"] == pytest.approx(np.mean([one["accuracy"] for one in narrow]))
    assert ends(found)[0] < min(one["accuracy_high"] - one["accuracy_low"] for one in narrow) / -2 + found["accuracy"]
    assert found["accuracy_seed_share"] > 0.5 and found["num_seeds"] == 3
    assert np.sum(found["confusion"]["counts"]) == 1800
    pair = compare(runs, seeded(apart, runs.folds), margin=0.02, names=("plain", "other"))
    assert pair.seed_share > 0.5 and "600 test images and 3 training seeds" in pair.sentence and "are the seeds'" in pair.sentence


def test_a_training_that_draws_nothing_counts_for_every_seed():
    runs = networks(3, seed=5)
    still = seeds_of(networks(2, seed=5, skill=1.5))[0]
    repeated = seeded([still] * 3, runs.folds)
    found, same = (compare(one, runs, margin=0.02) for one in (still, repeated))
    assert (found.low, found.high, found.seed_share) == (same.low, same.high, same.seed_share)


@pytest.mark.parametrize("kind", ["accuracy", "difference", "area"])
def test_the_truth_is_held_where_networks_differ_and_the_narrow_interval_does_not_hold_it(kind):
    study, rng = Study(3, 0.6, 0.0), np.random.default_rng(0)
    truth = {"accuracy": ACCURACIES[0], "difference": PAIRS[0], "area": AREAS[0]}[kind]
    value, wide, narrow = getattr(study, kind)(rng, np.full((200, 150), 4), truth)
    assert held(wide, value) >= 0.92  # of 200; the law is at 0.95
    assert held(narrow, value) < held(wide, value) - 0.1


def folds_of(run, folds):
    return [
        Predictions(run.labels[rows], run.logits[rows], run.groups[rows], run.image_ids[rows], run.class_names)
        for rows in (folds == k for k in range(NUM_FOLDS))
    ]


def test_folds_of_several_seeds_are_joined():
    runs = networks(3)
    joined = pool_seeds([folds_of(run, runs.folds) for run in seeds_of(runs)], image_ids=runs.image_ids)
    assert np.array_equal(joined.folds, runs.folds)
    for one, other in zip(seeds_of(joined), seeds_of(runs), strict=True):
        assert np.array_equal(one.logits, other.logits) and np.array_equal(one.image_ids, other.image_ids)
    single = pool_seeds([folds_of(runs, runs.folds)], image_ids=runs.image_ids)
    assert not isinstance(single, Seeded) and np.array_equal(single.logits, runs.logits)


def test_what_does_not_fit_together_is_refused():
    runs = networks(3)
    first, second, _ = seeds_of(runs)
    split = folds_of(second, np.roll(runs.folds, 2))
    with pytest.raises(DataError, match="fold 0 of seed 1 tested images that another fold tested with seed 0"):
        pool_seeds([folds_of(first, runs.folds), split], image_ids=runs.image_ids)
    with pytest.raises(DataError, match="need those of at least 2, got 1"):
        seeded([first], runs.folds)
    with pytest.raises(DataError, match=r"seed 1.*same images"):
        seeded([first, networks(2, num_images=30)], runs.folds)
    with pytest.raises(DataError, match="folds must be integers of shape"):
        seeded([first, second], runs.folds[:-1])
    with pytest.raises(DataError, match="a group must be tested in one fold"):
        seeded([first, second], np.arange(60) % 2)
    with pytest.raises(DataError, match="'a' and 'b' must have as many seeds as each other, got 3 and 2"):
        compare(runs, networks(2), margin=0.02, names=("a", "b"))
    with pytest.raises(DataError, match="different folds"):
        compare(runs, seeded(seeds_of(runs), np.roll(runs.folds, 2)), margin=0.02)
