"""The fused layer is Keras' BatchNormalization, number for number."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from ppdl.errors import ConfigError
from ppdl.training.networks.fused import FusedBatchNormalization, fused

tf = pytest.importorskip("tensorflow")

KINDS = (FusedBatchNormalization, keras.layers.BatchNormalization)
IMAGES = np.random.default_rng(0).normal(1.5, 2.0, (4, 3, 5, 6)).astype(np.float32)


def run(kind: type, *, training: bool, trainable: bool = True, inputs: np.ndarray = IMAGES, **arguments):
    """Return outputs, gradients by inputs, scale and offset, and the moving averages after three calls."""
    layer = kind(momentum=0.7, epsilon=2e-3, trainable=trainable, **arguments)
    layer.build(inputs.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.uniform(0.5, 2, w.shape).astype(np.float32) for w in layer.get_weights()])
    x = tf.constant(inputs)
    by = [x, *(v.value for v in layer.trainable_variables)]
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(y**3)
    return [y, *tape.gradient(loss, by), layer.moving_mean, layer.moving_variance]


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_gradients_and_moving_averages_agree(training, trainable):
    ours, theirs = (
        run(kind, training=training, trainable=trainable) for kind in (FusedBatchNormalization, keras.layers.BatchNormalization)
    )
    assert len(ours) == (6 if trainable else 4)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("inputs", "arguments"), [(IMAGES[:, 0, 0], {}), (IMAGES, {"scale": False}), (IMAGES, {"axis": 1})])
def test_what_the_kernel_cannot_do_is_left_to_the_standard_layer(inputs, arguments):
    ours, theirs = (
        run(kind, training=True, inputs=inputs, **arguments) for kind in (FusedBatchNormalization, keras.layers.BatchNormalization)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_fused_model_keeps_layers_weights_and_what_is_frozen():
    inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(momentum=0.6)])
    inner.layers[0].trainable = False
    model = keras.Sequential([keras.Input((8, 8, 3)), inner, keras.layers.Flatten(), keras.layers.Dense(2)])
    copy = fused(model)
    norm = copy.layers[0].layers[1]
    assert type(norm) is FusedBatchNormalization and norm.momentum == 0.6
    assert [v.shape for v in copy.trainable_variables] == [v.shape for v in model.trainable_variables]
    x = np.random.default_rng(2).normal(size=(3, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(copy(x), model(x), rtol=1e-4, atol=1e-5)
    copy.set_weights([w + 1 for w in copy.get_weights()])
    model.set_weights(copy.get_weights())
    np.testing.assert_allclose(copy(x), model(x), rtol=1e-4, atol=1e-4)


def test_another_backend_of_keras_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ConfigError, match="need Keras on TensorFlow, got backend torch: unset KERAS_BACKEND"):
        fused(keras.Sequential([keras.Input((2,))]))
