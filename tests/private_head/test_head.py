"""The integer head: its arithmetic, its files, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ppdl.errors import DataError
from ppdl.private_head.head import QuantisedHead, load_head, load_public_head
from tests.private_head.conftest import CLASS_NAMES, NUM_FEATURES, VALIDATION, toy_features


def change(head: QuantisedHead, **parts) -> QuantisedHead:
    fields = ("weights", "bias", "feature_scale", "logit_scale", "class_names", "backbone", "temperature")
    return QuantisedHead(**{name: getattr(head, name) for name in fields} | parts)


def test_features_are_rounded_to_the_nearest_step_and_clipped(fitted):
    head = change(fitted.head, feature_scale=0.5)
    features = np.zeros((1, NUM_FEATURES), np.float32)
    features[0, :5] = [0.24, 0.26, 0.74, 127.4, 1e6]
    assert head.quantise(features)[0, :5].tolist() == [0, 1, 1, 255, 255]
    assert head.quantise(features).dtype == np.uint8


def test_logits_are_exact_integers_at_the_largest_values():
    features = np.full((2, 5000), 255, np.uint8)
    bias = np.array([255 * 128 * 5000, -1], np.int64)
    weights = np.stack([np.full(5000, 127), np.full(5000, -128)]).astype(np.int8)
    head = QuantisedHead(weights, bias, 1.0, 1.0, ("a", "b"), {}, 1.0)
    assert head.logits(features).tolist() == [[255 * 127 * 5000 + 255 * 128 * 5000, -255 * 128 * 5000 - 1]] * 2
    assert head.logits(features).dtype == np.int64


def test_probabilities_follow_the_scale_and_the_temperature(fitted):
    head = change(fitted.head, logit_scale=0.5, temperature=2.0)
    expected = np.exp([[0, 1, 2]]) / np.exp([0, 1, 2]).sum()
    np.testing.assert_allclose(head.public.probabilities(np.array([[0, 4, 8]])), expected)
    np.testing.assert_allclose(head.public.probabilities(np.array([[0, 10**9, 0]])), [[0, 1, 0]])


def test_a_head_survives_the_way_to_its_files(fitted, tmp_path):
    fitted.head.save(tmp_path / "head")
    again = load_head(tmp_path / "head")
    features = again.quantise(toy_features()[0][VALIDATION])
    assert np.array_equal(again.logits(features), fitted.head.logits(features))
    assert load_public_head(tmp_path / "head") == again.public == fitted.head.public


def test_the_public_file_and_the_text_of_a_head_hold_no_weight(fitted, tmp_path):
    fitted.head.save(tmp_path)
    content = json.loads((tmp_path / "head.json").read_text())
    assert content.keys() == {"format", "arrays_sha256", *vars(fitted.head.public)}
    assert "weights=" not in repr(fitted.head).replace("'weights'", "") and "bias" not in repr(fitted.head)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "head.npz").unlink(), r"head.npz is missing"),
        (lambda folder: (folder / "head.json").unlink(), r"head.json is missing"),
        (lambda folder: (folder / "head.npz").write_bytes(b"PK"), r"head.npz does not have the SHA-256"),
        (lambda folder: (folder / "head.json").write_text("{"), r"head.json cannot be read as JSON"),
        (lambda folder: (folder / "head.json").write_text("[]"), "must hold a JSON object, got list"),
        (lambda folder: edit(folder, temperature=0), r"temperature must be a finite number above 0, got 0"),
        (lambda folder: edit(folder, num_features=3), r"holds weights \(3, 24\), and head.json names 3 x 3"),
        (lambda folder: edit(folder, class_names=[]), r"class_names must be names"),
        (lambda folder: edit(folder, further=1), r"unexpected keyword argument 'further'"),
        (lambda folder: other_arrays(folder, weights=np.zeros((3, 24), np.int16)), r"weights must be int8"),
        (lambda folder: other_arrays(folder, bias=np.full(3, 2**40)), r"bias must be at most"),
        (lambda folder: other_arrays(folder, bias=np.array([None] * 3)), r"head.npz cannot be read"),
    ],
)
def test_damaged_files_are_refused_by_name(fitted, tmp_path, damage, message):
    fitted.head.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        load_head(tmp_path)


def edit(folder, **parts) -> None:
    path = folder / "head.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def other_arrays(folder, **parts) -> None:
    """Write other arrays and name them in head.json: what damage cannot do but a wrong program can."""
    import hashlib

    arrays = {"weights": np.zeros((3, 24), np.int8), "bias": np.zeros(3, np.int64)} | parts
    np.savez(folder / "head.npz", **arrays)
    edit(folder, arrays_sha256=hashlib.sha256((folder / "head.npz").read_bytes()).hexdigest())


def test_features_of_another_number_or_that_are_not_finite_are_refused(fitted):
    with pytest.raises(DataError, match=rf"features must be \(num_images, {NUM_FEATURES}\), got \(2, 3\)"):
        fitted.head.quantise(np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match="features must be finite"):
        fitted.head.quantise(np.full((1, NUM_FEATURES), np.nan, np.float32))
    with pytest.raises(DataError, match="features must be uint8"):
        fitted.head.logits(np.zeros((1, NUM_FEATURES)))


def test_class_names_count_the_rows(fitted):
    with pytest.raises(DataError, match=r"weights must be int8 \(num_classes, num_features\) = \(2, 24\)"):
        change(fitted.head, class_names=CLASS_NAMES[:2])
