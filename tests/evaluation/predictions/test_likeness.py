"""Distances in feature space, and a threshold that keeps the rate of false alarms that it states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdl.errors import DataError
from ppdl.evaluation.predictions.likeness import FALSE_ALARMS, LIKENESS_NAME, Likeness, conformal_threshold, fit_likeness

NUM_FEATURES = 40


def films(rng, num, classes=3):
    """Return features like a network's, not negative, and labels."""
    labels = np.arange(num) % classes
    centres = np.random.default_rng(5).gamma(2, 1, (classes, NUM_FEATURES))
    mixing = np.random.default_rng(6).normal(0, 1, (NUM_FEATURES, NUM_FEATURES)) * np.linspace(0.4, 0.01, NUM_FEATURES)
    return np.maximum(centres[labels] + rng.normal(0, 1, (num, NUM_FEATURES)) @ mixing.T, 0), labels


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    features, labels = films(rng, 320)
    validation, _ = films(rng, 100)
    return fit_likeness(features, labels, validation, np.arange(100))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), num=st.integers(19, 60), law=st.sampled_from(["normal", "exponential", "standard_cauchy", "ties"]))
def test_one_more_of_the_same_kind_exceeds_the_threshold_as_seldom_as_stated(seed, num, law):
    """Over all ways to say which of num + 1 exchangeable distances is the new one, exactly: a law of ranks, and no matter of luck."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, num + 1).astype(float) if law == "ties" else getattr(rng, law)(size=num + 1)
    alarms = [values[i] > conformal_threshold(np.delete(values, i)) for i in range(num + 1)]
    assert np.mean(alarms) <= FALSE_ALARMS


def test_too_few_groups_give_no_threshold_and_no_alarm():
    assert np.isinf(conformal_threshold(np.arange(18.0))) and np.isfinite(conformal_threshold(np.arange(19.0)))
    rng = np.random.default_rng(1)
    features, labels = films(rng, 60)
    many_of_few = fit_likeness(features, labels, films(rng, 90)[0], np.arange(90) % 18)
    assert not many_of_few.has_threshold and not many_of_few.unlike(features + 1e6).any()


def test_alarms_on_new_images_are_about_as_stated(fitted):
    rate = np.mean(fitted.unlike(films(np.random.default_rng(2), 3000)[0]))
    assert 0 < rate < 3 * FALSE_ALARMS  # one threshold of 100 groups: the rate of a given one scatters


@pytest.mark.parametrize("change", ["shifted", "scaled", "shuffled", "constant"])
def test_what_is_wrong_is_called_so(fitted, change):
    features, _ = films(np.random.default_rng(3), 100)
    wrong = {
        "shifted": features + 3,
        "scaled": 3 * features,
        "shuffled": np.random.default_rng(4).permuted(features, axis=1),
        "constant": np.full_like(features, features.mean()),
    }[change]
    assert fitted.unlike(wrong).mean() > 0.95


@given(st.floats(0, 50), st.floats(0, 50))
@settings(max_examples=30)
def test_the_farther_along_a_line_from_a_class_mean_the_larger_the_distance_of_its_projection(near, far):
    rng = np.random.default_rng(0)
    features, labels = films(rng, 320, classes=1)
    one = fit_likeness(features, labels, features[:40], np.arange(40))
    within = one.directions.astype(np.float64)
    values = one.class_means[0, :-1] @ within.T + features[0] - within @ (within.T @ features[0])  # some lies outside, as of any image
    step = one.directions[:, 0]
    first, second = sorted([near, far])
    # of one class the distance is that to its mean; the last value is the same for both, for the step lies within the directions
    a, b = one.distances(np.stack([values + first * step, values + second * step]))
    assert a <= b + 1e-6


def test_classes_in_another_order_and_features_in_another_basis_change_no_distance(fitted):
    rng = np.random.default_rng(7)
    features, labels = films(rng, 320)
    validation, _ = films(rng, 60)
    turn = np.linalg.qr(rng.normal(size=(NUM_FEATURES, NUM_FEATURES)))[0]
    plain = fit_likeness(features, labels, validation, np.arange(60)).distances(validation)
    renamed = fit_likeness(features, 2 - labels, validation, np.arange(60)).distances(validation)
    turned = fit_likeness(features @ turn, labels, validation @ turn, np.arange(60)).distances(validation @ turn)
    np.testing.assert_allclose(renamed, plain, rtol=1e-4)
    np.testing.assert_allclose(turned, plain, rtol=1e-2)


def test_what_is_stored_is_a_few_directions_and_no_image(fitted, tmp_path):
    features, _ = films(np.random.default_rng(0), 320)
    assert fitted.directions.shape == (NUM_FEATURES, 20)  # one for each 16 images
    stored = np.concatenate([getattr(fitted, name).ravel() for name in vars(fitted)])
    assert not np.isin(features.astype(np.float32).ravel()[features.ravel() > 0], stored).any()
    fitted.save(tmp_path)
    again = Likeness.load(tmp_path)
    np.testing.assert_array_equal(again.distances(features), fitted.distances(features))
    assert Likeness.load(tmp_path / "none") is None


@pytest.mark.parametrize("damage", ["short", "shape", "nan", "lacking"])
def test_a_damaged_file_is_refused_by_name(fitted, tmp_path, damage):
    path, arrays = tmp_path / LIKENESS_NAME, dict(vars(fitted))
    if damage == "shape":
        arrays["whitening"] = arrays["whitening"][:-1]
    elif damage == "nan":
        arrays["class_means"] = np.full_like(arrays["class_means"], np.nan)
    elif damage == "lacking":
        del arrays["threshold"]
    np.savez(path, **arrays)
    if damage == "short":
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"likeness\.npz.*train the model again"):
        Likeness.load(tmp_path)


def test_features_of_another_number_are_refused(fitted):
    with pytest.raises(DataError, match=r"features must be \(num_images, 40\), got \(2, 3\)"):
        fitted.distances(np.zeros((2, 3)))
