"""Parts of a batch give what the whole gives, but for BatchNorm, which sees each part by itself."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from ppdl.training.fitting.parts import InParts
from ppdl.training.networks.fused import fused

RNG = np.random.default_rng(0)
PART = RNG.integers(0, 256, (8, 6, 6)).astype(np.uint8)


def network() -> keras.Model:
    keras.utils.set_random_seed(2)
    inputs = keras.Input((6, 6), dtype="uint8")
    x = keras.layers.Reshape((6, 6, 1))(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.BatchNormalization(momentum=0.81)(keras.layers.Conv2D(4, 3, use_bias=False)(x))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


@pytest.mark.parametrize("num_parts", [2, 3])
def test_evaluation_does_not_depend_on_parts(num_parts):
    model = network()
    parts = InParts(fused(model), num_parts)
    for num_images in (1, 2, 3, 7, 16):
        images = RNG.integers(0, 256, (num_images, 6, 6)).astype(np.uint8)
        expected = model(images, training=False)
        np.testing.assert_allclose(parts(images, training=False), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(parts.predict(images, verbose=0), expected, rtol=1e-5, atol=1e-5)


def steps(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for _ in range(3):
        model.train_on_batch(images, np.arange(len(images)) % 2)
    return model.get_weights()


@pytest.mark.parametrize("num_parts", [2, 3])
def test_equal_parts_train_as_one_of_them_does(num_parts):
    whole = steps(network(), PART)
    parts = steps(InParts(fused(network()), num_parts), np.concatenate([PART] * num_parts))
    for a, b in zip(parts, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_each_part_is_normalised_by_itself():
    model = InParts(fused(network()), 2)
    bright = np.full_like(PART, 200) + PART // 8
    apart = model(np.concatenate([PART, bright]), training=True)
    np.testing.assert_allclose(apart[:8], model(np.concatenate([PART, PART]), training=True)[:8], rtol=1e-4, atol=1e-4)
    assert np.abs(np.asarray(model.network(np.concatenate([PART, bright]), training=True)) - np.asarray(apart)).max() > 0.1
