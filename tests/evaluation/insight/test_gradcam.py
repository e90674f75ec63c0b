"""Grad-CAM equals its definition, finds what a network looks at, and takes every kind of view."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from ppdl.errors import ConfigError
from ppdl.evaluation.insight.gradcam import grad_cam, map_shape
from ppdl.protections.view import View, plain_view
from ppdl.training.networks.model import MobileNetV2
from ppdl.training.networks.predict import load_model, save_model

PX = 64
IMAGES = np.random.default_rng(0).integers(0, 256, (5, PX, PX)).astype(np.uint8)
VIEWS = {
    "values": plain_view(IMAGES),
    "channels": View("view", IMAGES[..., None].repeat(3, axis=3).astype(np.int32) * 9 - 900, None, False, 1e-3, 0.1),
    "symbols": View("symbols", IMAGES, np.linspace(-1, 1, 256, dtype=np.float32)[:, None], True, 1.0, 0.0),
}


def network(view: View) -> keras.Model:
    keras.utils.set_random_seed(3)
    return MobileNetV2(alpha=0.35, weights=None, dropout=0.2, fine_tune_depth=None, batchnorm_momentum=None).build(view, 3)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_it_is_the_class_activation_map_of_a_network_with_a_linear_head(view):
    """With global average pooling and a linear head the gradient is the head's weights (the paper's section 3.1)."""
    model, inputs = network(view), np.asarray(view.array)
    features = keras.Model(model.inputs[0], model.get_layer("pool").input)(inputs, training=False).numpy()
    for class_index in (0, 2):
        expected = np.maximum(features @ model.get_layer("logits").get_weights()[0][:, class_index], 0)  # (n, 2, 2)
        top = expected.max(axis=(1, 2), keepdims=True)
        expected = np.divide(expected, top, out=np.zeros_like(expected), where=top > 0)
        found = grad_cam(model, inputs, class_index)
        assert found.shape == (5, PX, PX) and found.dtype == np.float32
        corners = found[:, [0, 0, -1, -1], [0, -1, 0, -1]]  # beyond a cell's middle bilinear interpolation repeats the cell
        np.testing.assert_allclose(corners, expected.reshape(5, 4), atol=1e-4)
    assert map_shape(model) == (2, 2)


def test_without_a_class_each_image_explains_its_own():
    model = network(VIEWS["values"])
    model.get_layer("logits").set_weights([model.get_layer("logits").get_weights()[0] * 50, np.zeros(3)])
    said = model(IMAGES, training=False).numpy().argmax(axis=1)
    found = grad_cam(model, IMAGES)
    for row, class_index in enumerate(said):
        np.testing.assert_allclose(found[row : row + 1], grad_cam(model, IMAGES[row : row + 1], int(class_index)), atol=1e-5)


def test_it_shows_the_place_that_a_network_looks_at():
    inputs = keras.Input((PX, PX), dtype="uint8")
    x = keras.layers.Reshape((PX, PX, 1))(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Conv2D(1, 8, strides=8, kernel_initializer="ones", name="sum")(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    model.layers[-1].set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
    images = np.zeros((2, PX, PX), np.uint8)
    images[0, 8:16, 40:48] = 255
    bright, dark = grad_cam(model, images, 0), grad_cam(model, images, 1)
    assert np.unravel_index(bright[0].argmax(), (PX, PX))[0] in range(8, 16) and bright[0, :, :32].max() == 0
    assert bright[0, 12, 44] > 0.85 and bright[0].min() >= 0 and bright[0].max() <= 1
    assert not dark.any() and not bright[1].any()  # nothing speaks for the class


def test_a_saved_model_and_other_sizes_of_batches_give_the_same(tmp_path):
    model = network(VIEWS["symbols"])
    save_model(model, tmp_path / "model.keras")
    many = np.concatenate([IMAGES] * 8)
    np.testing.assert_allclose(grad_cam(load_model(tmp_path / "model.keras"), many)[-5:], grad_cam(model, IMAGES), atol=1e-5)
    assert grad_cam(model, IMAGES[:0]).shape == (0, PX, PX)


def test_what_does_not_fit_is_refused():
    inputs = keras.Input((4,))
    with pytest.raises(ConfigError, match="this one has none"):
        grad_cam(keras.Model(inputs, keras.layers.Dense(2)(inputs)), np.zeros((1, 4)))
