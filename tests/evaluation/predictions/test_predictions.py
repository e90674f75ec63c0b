"""Predictions refuse what does not fit, survive a file, and pool into one cross-validation."""

import dataclasses

import numpy as np
import pytest

from ppdl.errors import DataError
from ppdl.evaluation.predictions.predictions import FIELDS, Predictions, check_same_images, pool

GOOD = {
    "labels": np.array([0, 1, 1]),
    "logits": np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]),
    "groups": np.array([7, 7, 8]),
    "image_ids": np.array(["a", "b", "c"]),
    "class_names": ("COVID", "Normal"),
}


def rows(predictions, chosen):
    fields = {name: getattr(predictions, name)[chosen] for name in FIELDS[:-1]}
    return Predictions(**fields, class_names=predictions.class_names)


def assert_equal(first, second):
    assert first.class_names == second.class_names
    for name in FIELDS[:-1]:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("logits", [[1, 0], [0, np.nan], [2, 1]], r"logits must be finite, got \[0.0, nan\] at row 1; the training diverged"),
        ("logits", [[1, 0], [0, 1], [np.inf, 1]], "logits must be finite"),
        ("logits", [[1, 0], [0, 1], [1e300, 1]], "logits must be finite"),
        ("logits", [[1, 0], [0, 1]], r"logits must be numbers of shape \(3, 2\), got \(2, 2\)"),
        ("logits", [[1, 0, 0], [0, 1, 0], [0, 0, 1]], r"logits must be numbers of shape \(3, 2\), got \(3, 3\)"),
        ("logits", [1.0, 0.0, 1.0], r"logits must be numbers of shape \(3, 2\), got \(3,\)"),
        ("logits", [["1", "0"]] * 3, "logits must be numbers"),
        ("labels", [0, 1, 2], r"labels must be in \[0, 2\), got 0 to 2"),
        ("labels", [0, -1, 1], r"labels must be in \[0, 2\), got -1 to 1"),
        ("labels", [0.0, 1.0, 1.0], "labels must be a non-empty 1-D array of integers"),
        ("labels", [True, False, True], "labels must be a non-empty 1-D array of integers"),
        ("labels", [[0, 1, 1]], "labels must be a non-empty 1-D array of integers"),
        ("labels", np.zeros(0, int), "labels must be a non-empty 1-D array of integers"),
        ("groups", [7, 7], r"groups must be of shape \(3,\), one for each label, got \(2,\)"),
        ("groups", [7.0, np.nan, 8.0], "groups must be integers or text without gaps"),
        ("groups", np.array(["x", None, "y"], object), "groups must be integers or text without gaps"),
        ("image_ids", ["a", "b", "a"], "image_ids must name each image once, got 'a' 2 times"),
        ("class_names", ("COVID",), "class_names must be at least 2 different names"),
        ("class_names", ("COVID", "COVID"), "class_names must be at least 2 different names"),
    ],
)
def test_malformed_input_is_refused(field, value, message):
    with pytest.raises(DataError, match=message):
        Predictions(**GOOD | {field: value if isinstance(value, tuple) else np.array(value)})


def test_arrays_cannot_be_changed_afterwards():
    logits = GOOD["logits"].copy()
    predictions = Predictions(**GOOD | {"logits": logits})
    logits[0] = 9
    assert predictions.logits[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        predictions.logits[0] = 9
    with pytest.raises(dataclasses.FrozenInstanceError):
        predictions.labels = np.zeros(3, int)


def test_predicted_is_the_first_of_equal_logits():
    logits = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert Predictions(**GOOD | {"logits": logits}).predicted.tolist() == [0, 1, 0]


def test_files_give_back_everything_and_are_reproducible(tmp_path, simulated):
    predictions = simulated(50, group_size=2)
    predictions.save(tmp_path / "folds/one.npz")
    predictions.save(tmp_path / "folds/two.npz")
    assert_equal(Predictions.load(tmp_path / "folds/one.npz"), predictions)
    assert (tmp_path / "folds/one.npz").read_bytes() == (tmp_path / "folds/two.npz").read_bytes()


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match=r"gone\.npz is missing: cross-validate"):
        Predictions.load(tmp_path / "gone.npz")


def _text(path):
    path.write_text("not an archive")


def _truncated(path):
    Predictions(**GOOD).save(path)
    path.write_bytes(path.read_bytes()[:-200])


def _flipped(path):
    Predictions(**GOOD).save(path)
    content = bytearray(path.read_bytes())
    content[100] ^= 0xFF
    path.write_bytes(bytes(content))


def _single_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _without_labels(path):
    np.savez(path, **{name: np.asarray(GOOD[name]) for name in FIELDS if name != "labels"})


def _pickled(path):
    np.savez(path, **{name: np.asarray(GOOD[name], dtype=object) for name in FIELDS})


def _contradictory(path):
    np.savez(path, **GOOD | {"labels": np.array([0, 1, 5])})


@pytest.mark.parametrize("damage", [_text, _truncated, _flipped, _single_array, _without_labels, _pickled, _contradictory])
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "plain.npz"
    damage(path)
    with pytest.raises(DataError, match=r"plain\.npz(: labels must| cannot be read as arrays .*: delete it)"):
        Predictions.load(path)


def test_pooling_restores_the_order_of_the_index(simulated):
    whole = simulated(30, group_size=2)
    fold_of = np.arange(15).repeat(2) % 3
    folds = [rows(whole, np.flatnonzero(fold_of == fold)[::-1]) for fold in (2, 0, 1)]
    assert_equal(pool(folds, image_ids=whole.image_ids), whole)


def test_pooling_refuses_what_is_no_cross_validation(simulated):
    whole = simulated(30, group_size=2)
    first, second = rows(whole, np.arange(16)), rows(whole, np.arange(16, 30))
    with pytest.raises(DataError, match=r"image 'image-14\.png' was tested in folds \[0, 1\]: test folds must not overlap"):
        pool([first, rows(whole, np.arange(14, 30))], image_ids=whole.image_ids)
    with pytest.raises(DataError, match=r"group '7' was tested in folds \[0, 1\]"):
        pool([rows(whole, np.arange(15)), rows(whole, np.arange(15, 30))], image_ids=whole.image_ids)
    with pytest.raises(DataError, match=r"14 images were never tested: .* the first is 'image-16\.png'"):
        pool([first], image_ids=whole.image_ids)
    with pytest.raises(DataError, match=r"10 images were tested but are not in the index"):
        pool([first, second], image_ids=whole.image_ids[:20])
    with pytest.raises(DataError, match="folds are of different classes"):
        pool([first, dataclasses.replace(second, class_names=("A", "B", "X"))], image_ids=whole.image_ids)
    with pytest.raises(DataError, match="at least one fold, got none"):
        pool([], image_ids=whole.image_ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: rows(p, np.r_[1, 0, 2:10]), r"image_ids differ at row 0: image-0\.png and image-1\.png"),
        (lambda p: rows(p, np.arange(9)), "must be tested on the same images, got 10 and 9 of them"),
        (lambda p: dataclasses.replace(p, labels=np.zeros(10, int)), "labels differ at row 1"),
        (lambda p: dataclasses.replace(p, groups=np.zeros(10, int)), "groups differ at row 1"),
        (lambda p: dataclasses.replace(p, class_names=("A", "B", "X")), "of different classes"),
    ],
)
def test_runs_on_other_images_are_refused(simulated, change, message):
    predictions = simulated(10)
    check_same_images(predictions, predictions, names=("plain", "plain"))
    with pytest.raises(DataError, match=f"runs 'plain' and 'opaque'.*{message}"):
        check_same_images(predictions, change(predictions), names=("plain", "opaque"))
