"""Grad-CAM: where in an image a network saw what speaks for a class.

Source: Selvaraju et al. 2017 (arXiv 1610.02391), equations 1 and 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.errors import ConfigError

if TYPE_CHECKING:
    import keras

_BATCH = 32


class NoMapError(ConfigError):
    """The network has no convolutions whose output is pooled or flattened, so there is no Grad-CAM of it."""


def grad_cam(model: keras.Model, inputs: np.ndarray, class_index: int | None = None) -> np.ndarray:
    """Return the Grad-CAM of each image: the last convolution's channels, weighted by the mean gradient of the class's logit, above 0.

    The map has as many cells as the last convolution (`map_shape`: 2 x 2 for MobileNetV2 at 64 pixels, 7 x 7 at 224) and only that map
    is brought to the input's size, by bilinear interpolation: no edge in it is finer than a cell.

    Args:
        model: From a view's integers to logits, as `ppdl.training.networks.model` builds it; any layers whose last 4-D output is pooled or
            flattened.
        inputs: (num_images, height, width[, channels]) integers as the model takes them.
        class_index: The class that is explained; None: of each image the one with the largest logit.

    Returns:
        (num_images, height, width) float32 in [0, 1], the largest value of the map before its enlargement being 1; all 0 where
        nothing speaks for the class.

    Raises:
        NoMapError: The model has no such convolution.

    Cost: one forward pass, and the gradient of what follows the last convolution alone.
    """
    import keras

    middle = _last_features(model)
    lower, upper = keras.Model(model.inputs[0], middle), keras.Model(middle, model.outputs[0])
    size = inputs.shape[1:3]
    maps = np.zeros((len(inputs), *size), np.float32)
    for start in range(0, len(inputs), _BATCH):
        features = lower(keras.ops.convert_to_tensor(inputs[start : start + _BATCH]), training=False)
        coarse = _coarse_maps(upper, features, class_index)
        large = keras.ops.image.resize(keras.ops.convert_to_tensor(coarse[..., None]), size, "bilinear", data_format="channels_last")
        maps[start : start + _BATCH] = np.clip(keras.ops.convert_to_numpy(large)[..., 0], 0, 1)
    return maps


def map_shape(model: keras.Model) -> tuple[int, int]:
    """Return how many cells high and wide a model's Grad-CAM is before it is enlarged."""
    return tuple(_last_features(model).shape[1:3])


def _coarse_maps(upper: keras.Model, features: Any, class_index: int | None) -> np.ndarray:
    """Return (n, cells high, cells wide) float32 in [0, 1]."""
    import keras

    logits = keras.ops.convert_to_numpy(upper(features, training=False))
    classes = logits.argmax(axis=1) if class_index is None else np.full(len(logits), class_index)
    gradients = _gradients(upper, features, np.eye(logits.shape[1], dtype=np.float32)[classes])
    weights = gradients.mean(axis=(1, 2), keepdims=True)  # equation 1
    maps = np.maximum((weights * keras.ops.convert_to_numpy(features)).sum(axis=-1), 0)  # equation 2
    top = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, top, out=np.zeros_like(maps), where=top > 0)


def _gradients(upper: keras.Model, features: Any, chosen: np.ndarray) -> np.ndarray:
    """Return the gradients by `features` of the logits that `chosen`, (n, num_classes) of one 1 a row, picks."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(features)
        total = tf.reduce_sum(upper(features, training=False) * chosen)
    return tape.gradient(total, features).numpy()


def _last_features(model: keras.Model) -> Any:
    """Return the tensor that is pooled: the last one with two axes of space."""
    for layer in reversed(model.layers):
        before = layer.input
        if not isinstance(before, list) and len(before.shape) == 4 and len(layer.output.shape) == 2:
            return before
    raise NoMapError("Grad-CAM needs a network whose convolutions are pooled or flattened; this one has none")
