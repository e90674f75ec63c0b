"""Models survive the way to a file and back, and give one row of logits an image, in order."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from ppdl.errors import ConfigError, DataError
from ppdl.protections.view import View, plain_view
from ppdl.training.networks.model import MobileNetV2
from ppdl.training.networks.predict import load_model, predict_features, predict_flipped, predict_logits, save_model

VIEW = plain_view(np.random.default_rng(0).integers(0, 256, (11, 32, 32)).astype(np.uint8))
ROWS = np.array([7, 3, 3, 10, 0])


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return MobileNetV2(alpha=0.35, weights=None, dropout=0.2, fine_tune_depth=None, batchnorm_momentum=None).build(VIEW, 3)


def test_logits_follow_the_rows_and_not_the_batch_size(model, tmp_path):
    expected = keras.ops.convert_to_numpy(model(VIEW.array[ROWS], training=False))
    save_model(model, tmp_path / "new/model.keras")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.keras"]
    for network in (model, load_model(tmp_path / "new/model.keras")):
        logits = predict_logits(network, VIEW, ROWS, 2)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_no_rows_give_no_logits(model):
    assert predict_logits(model, VIEW, ROWS[:0], 4).shape == (0, 3)


def test_features_are_what_the_last_layer_is_fed(model):
    logits, features = predict_features(model, VIEW, ROWS, 2)
    np.testing.assert_allclose(logits, predict_logits(model, VIEW, ROWS, 2), rtol=1e-5, atol=1e-6)
    weights, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(features @ weights + bias, logits, rtol=1e-4, atol=1e-5)
    assert [part.shape for part in predict_features(model, VIEW, ROWS[:0], 2)] == [(0, 3), (0, 1280)]


def test_a_model_that_ends_in_maps_has_no_features():
    inputs = keras.Input((32, 32), dtype="uint8")
    maps = keras.layers.Conv2D(3, 3)(keras.layers.Rescaling(1 / 255)(keras.layers.Reshape((32, 32, 1))(inputs)))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps))
    logits, features = predict_features(model, VIEW, ROWS, 2)
    assert features is None and logits.shape == (len(ROWS), 3)


def test_views_of_another_shape_and_unknown_symbols_are_refused(model):
    with pytest.raises(ConfigError, match=r"must have the shape \(32, 32\) that the model was trained on, got \(64, 64\)"):
        predict_logits(model, plain_view(np.zeros((1, 64, 64), np.uint8)), ROWS[:1], 4)
    symbols = View("s", VIEW.array, np.zeros((5, 1), np.float32), False, 1.0, 0.0)
    with pytest.raises(DataError, match=r"symbols must lie in \[0, 5\)"):
        predict_logits(model, symbols, ROWS, 4)


def test_a_failed_save_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")

    def full(self, target, **_):
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match="no space"):
        save_model(model, path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_files_that_are_no_models_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in .keras, got 'model.h5'"):
        save_model(None, tmp_path / "model.h5")
    with pytest.raises(DataError, match=r"none.keras is missing: train it with `dvc repro`"):
        load_model(tmp_path / "none.keras")
    text = tmp_path / "text.keras"
    text.write_text("no model")
    with pytest.raises(DataError, match=r"text.keras is not a .keras file"):
        load_model(text)
    np.savez(tmp_path / "zip.npz", a=np.zeros(3))
    other = (tmp_path / "zip.npz").rename(tmp_path / "zip.keras")
    with pytest.raises(DataError, match=r"zip.keras cannot be read \("):
        load_model(other)


def test_code_in_a_model_file_is_not_run(tmp_path):
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs)).save(tmp_path / "code.keras")
    with pytest.raises(DataError, match=r"code.keras cannot be read \("):
        load_model(tmp_path / "code.keras")


def test_flips_average_an_image_and_its_mirror_image(model):
    turned = VIEW.mirrored()
    both = [predict_logits(model, view, ROWS, 4) for view in (VIEW, turned)]
    assert not np.array_equal(*both)
    assert predict_flipped(model, VIEW, ROWS, 4) == pytest.approx((both[0] + both[1]) / 2, abs=1e-6)
    assert predict_flipped(model, turned, ROWS, 4) == pytest.approx(predict_flipped(model, VIEW, ROWS, 4), abs=1e-5)
    colour = dataclasses.replace(VIEW, array=np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8))
    assert np.array_equal(colour.mirrored().array[:], colour.array[:, :, ::-1])
    assert np.array_equal(colour.mirrored().mirrored().array[1], colour.array[1])
