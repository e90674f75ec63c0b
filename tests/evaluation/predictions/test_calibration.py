"""A temperature makes confidence match accuracy, changes no answer, and claims nothing that the images cannot show."""

import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import log_softmax, softmax

from ppdl.errors import DataError
from ppdl.evaluation.measures.metrics import evaluate
from ppdl.evaluation.predictions.calibration import (
    LEAST,
    MOST,
    apply_temperature,
    calibrate,
    calibrated,
    fit_temperature,
    load_calibration,
)
from ppdl.evaluation.predictions.predictions import Predictions


def drawn(temperature: float, num_images: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels drawn from softmax(z), and z * temperature: logits that are right at that temperature."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, (num_images, 3))
    chances = softmax(true, axis=1)
    labels = (rng.random((num_images, 1)) > np.cumsum(chances, axis=1)).sum(axis=1)
    return labels.clip(max=2), true * temperature


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.7])
def test_the_temperature_that_made_the_logits_is_found(temperature):
    labels, logits = drawn(temperature)
    assert fit_temperature(labels, logits) == pytest.approx(temperature, rel=0.06)
    found = calibrate(labels, logits)
    assert found.nll_after <= found.nll_before and found.ece_after < 0.03 and found.num_images == 4000


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.int64, (12, 3), elements=st.integers(-400, 400)).map(lambda numbers: numbers / np.float32(8)),
    arrays.arrays(np.int64, 12, elements=st.integers(0, 2)),
    st.floats(0.01, 100),
)
def test_no_answer_changes_and_the_likelihood_never_falls(logits, labels, temperature):
    assert np.array_equal(apply_temperature(logits, temperature).argmax(axis=1), logits.argmax(axis=1))
    rows = np.arange(12)

    def nll(t: float) -> float:
        return -log_softmax(logits.astype(float) / t, axis=1)[rows, labels].mean()

    best = fit_temperature(labels, logits)
    assert 0 < best <= MOST and nll(best) <= nll(1.0) + 1e-6
    if best != 1:  # a minimum: there is one only, so nothing beside it is better
        assert nll(best) <= min(nll(best * 1.02), nll(best / 1.02)) + 1e-6 or best in (LEAST, MOST)


def test_accuracy_is_the_same_before_and_after():
    labels, logits = drawn(3.0, 300)
    names = ("a", "b", "c")
    predictions = Predictions(labels, logits, np.arange(300), np.arange(300), names)
    after = calibrated(predictions, fit_temperature(*drawn(3.0, 300, seed=1)))
    assert np.array_equal(after.predicted, predictions.predicted)
    results = [evaluate(p) for p in (predictions, after)]
    for name in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "balanced_accuracy", "confusion"):
        assert results[0][name] == results[1][name]
    assert all(results[1][name] < results[0][name] for name in ("ece", "brier", "log_loss"))


def test_few_images_and_images_without_an_error_leave_the_logits_as_they_are(caplog):
    labels, logits = np.array([0, 1, 2] * 3), np.eye(3)[[0, 1, 0] * 3]
    with caplog.at_level(logging.WARNING):
        assert fit_temperature(labels, logits) == 1.0
        assert "9 validation images are too few for a temperature (10 are needed)" in caplog.text
        assert fit_temperature(np.arange(30) % 3, np.eye(3)[np.arange(30) % 3]) == 1.0
    assert "no validation image of 30 is classified wrongly" in caplog.text


def test_logits_that_are_all_alike_stay_as_they_are():
    assert fit_temperature(np.arange(12) % 3, np.full((12, 3), 0.5)) == 1.0


def test_a_network_that_is_never_right_becomes_unsure_within_the_bound(caplog):
    labels = np.zeros(20, int)
    temperature = fit_temperature(labels, np.tile([-5.0, 5.0], (20, 1)))
    assert temperature == MOST and "no better than even probabilities: T = 100, its bound" in caplog.text
    assert apply_temperature(np.array([[-5.0, 5.0]]), temperature)[0, 0] == pytest.approx(0.475, abs=0.001)


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        (np.zeros(12, int), np.full((12, 2), np.nan), "logits must be finite"),
        (np.zeros(12, int), np.zeros((11, 2)), "logits must be numbers of shape"),
        (np.full(12, 2), np.zeros((12, 2)), r"labels must be in \[0, 2\)"),
        (np.zeros(12), np.zeros((12, 2)), "labels must be a non-empty 1-D array of integers"),
        (np.zeros(0, int), np.zeros((0, 2)), "labels must be a non-empty"),
        (np.zeros(12, int), np.zeros(12), "at least 2 different names"),
    ],
)
def test_what_is_no_validation_result_is_refused(labels, logits, message):
    with pytest.raises(DataError, match=message):
        fit_temperature(labels, logits)


@pytest.mark.parametrize("temperature", [0, -1.0, np.nan, np.inf, "1", None, True])
def test_what_is_no_temperature_is_refused(temperature, tmp_path):
    calibrate(*drawn(1.0, 50)).write(tmp_path)
    content = json.loads((tmp_path / "calibration.json").read_text()) | {"temperature": temperature}
    (tmp_path / "calibration.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"calibration\.json: temperature must be a finite number above 0, got .*: train the model again"):
        load_calibration(tmp_path)


def test_what_was_written_is_read(tmp_path):
    found = calibrate(*drawn(2.0, 200))
    found.write(tmp_path)
    assert load_calibration(tmp_path) == found
    keys = {"temperature", "num_images", "nll_before", "nll_after", "ece_before", "ece_after", "origin"}
    assert json.loads((tmp_path / "calibration.json").read_text()).keys() == keys


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"temperature": 1.0}', "\x00"])
def test_damaged_files_are_refused(content, tmp_path):
    with pytest.raises(DataError, match=r"calibration\.json is missing: train the model with `dvc repro`, or fetch it with `dvc pull`"):
        load_calibration(tmp_path)
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(DataError, match=r"calibration\.json (cannot be read|must hold a JSON object|is no calibration)"):
        load_calibration(tmp_path)
