"""BatchNorm as one TensorFlow kernel, for training.

Keras 3 composes BatchNormalization of elementwise operations, which take about half the time of a MobileNetV2 step on a CPU. The
network is trained with the layer below, which computes the same, and its weights go back into standard layers, so that a saved
model needs nothing of ours.
"""

from __future__ import annotations

from typing import Any

import keras

from ppdl.errors import ConfigError


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Compute keras.layers.BatchNormalization with TensorFlow's FusedBatchNormV3 where that applies.

    It applies to float32 images with channels last; elsewhere the standard layer's own code runs.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not self._fits(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        if not (training and self.trainable):
            return self._fused(inputs, self.moving_mean, self.moving_variance, is_training=False).y
        import tensorflow as tf

        out = self._fused(inputs, tf.zeros([0]), tf.zeros([0]), is_training=True)
        # The kernel returns the unbiased variance, Keras averages the biased one.
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        variance = out.batch_variance * ((count - 1) / count)
        self.moving_mean.assign(self.moving_mean * self.momentum + out.batch_mean * (1 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
        return out.y

    def _fused(self, inputs: Any, mean: Any, variance: Any, *, is_training: bool) -> Any:
        import tensorflow as tf

        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.convert_to_tensor(mean),
            variance=tf.convert_to_tensor(variance),
            epsilon=self.epsilon,
            is_training=is_training,
        )

    def _fits(self, inputs: Any, mask: Any) -> bool:
        plain = mask is None and self.scale and self.center and not self.renorm and not self.synchronized
        images = len(inputs.shape) == 4 and self.axis in (3, -1)
        return plain and images and keras.backend.standardize_dtype(inputs.dtype) == "float32"


def fused(model: keras.Model) -> keras.Model:
    """Return a copy of a model, with the same weights and outputs, whose BatchNorm layers are fused.

    The copy has weights of its own: `model.set_weights(copy.get_weights())` brings them back.

    Raises:
        ConfigError: Keras runs on another backend than TensorFlow.
    """
    if (backend := keras.backend.backend()) != "tensorflow":
        raise ConfigError(f"networks need Keras on TensorFlow, got backend {backend}: unset KERAS_BACKEND, or set it to tensorflow")

    def copy_layer(layer: keras.Layer) -> keras.Layer:
        kind = FusedBatchNormalization if type(layer) is keras.layers.BatchNormalization else type(layer)
        return kind.from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=copy_layer, recursive=True)
    clone.set_weights(model.get_weights())
    return clone
