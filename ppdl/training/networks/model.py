"""The network: a view's symbols or values made images, MobileNetV2, a linear head.

Built of standard Keras layers alone, so that a saved model loads without this package.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.errors import ConfigError
from ppdl.protections.view import View
from ppdl.records.typecheck import Fraction, Positive, Text, Whole

if TYPE_CHECKING:
    import keras

LEAST_PX = 32  # MobileNetV2 halves the image five times
FROM_SCRATCH_MOMENTUM = 0.9
_IMAGENET_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


@dataclass(frozen=True)
class MobileNetV2:
    """Classify images with MobileNetV2 (keras.applications).

    Args:
        alpha: Width of the network: 1.0 as published, 0.35 the narrowest with ImageNet weights.
        weights: None: random; "imagenet": Keras downloads them; else the path of a file without the top (`include_top=False`).
        dropout: Share of the pooled features that is dropped in training.
        fine_tune_depth: Only the last so many layers of the backbone learn, 0 only the head; None: all. The BatchNorm layers before
            them are frozen whole: they use and keep the statistics that they came with. A trainable table always learns.
        batchnorm_momentum: Of BatchNorm's moving averages; None: 0.9 from scratch, Keras' 0.999 with weights. At 0.999 a short
            training from scratch is evaluated with averages that are still mostly their initial values, and gives chance.

    Raises:
        ConfigError: An argument breaks its rule.

    Source: Sandler et al. 2018 (arXiv 1801.04381).
    """

    alpha: Positive
    weights: Text | None
    dropout: Fraction
    fine_tune_depth: Whole | None
    batchnorm_momentum: Fraction | None

    def __post_init__(self) -> None:
        if self.weights == "imagenet" and self.alpha not in _IMAGENET_ALPHAS:
            raise ConfigError(f"alpha must be one of {_IMAGENET_ALPHAS} with weights imagenet, got {self.alpha}")
        if self.weights is None and self.fine_tune_depth is not None:
            raise ConfigError(f"fine_tune_depth needs weights to keep: set weights, or null here; got {self.fine_tune_depth}")

    def build(self, view: View, num_classes: int) -> keras.Model:
        """Build the network for a view.

        Returns:
            Model from the view's integers, (batch, *view.array.shape[1:]), to logits, (batch, num_classes).

        Raises:
            ConfigError: The view is smaller than 32 pixels, or the weights are missing, unreadable or of another alpha.
        """
        import keras

        height, width = view.array.shape[1:3]
        if min(height, width) < LEAST_PX:
            found = f"{height}x{width}"
            raise ConfigError(f"MobileNetV2 needs images of at least {LEAST_PX} x {LEAST_PX} pixels, got {found}: raise input_px")
        backbone = self.backbone((height, width))
        inputs = keras.Input(view.array.shape[1:], dtype=input_dtype(view.array.dtype), name="view")
        x = backbone(as_images(inputs, view))
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        x = keras.layers.Dropout(self.dropout, name="dropout")(x)
        return keras.Model(inputs, keras.layers.Dense(num_classes, name="logits")(x), name="classifier")

    def backbone(self, size: tuple[int, int]) -> keras.Model:
        """Build MobileNetV2 without its top: from images of 3 channels, (batch, *size, 3), to maps of features."""
        import keras

        backbone = self._with_weights((*size, 3))
        if self.fine_tune_depth is not None:
            num_layers = len(backbone.layers)
            if self.fine_tune_depth > num_layers:
                raise ConfigError(f"fine_tune_depth must be at most {num_layers}, the number of layers, got {self.fine_tune_depth}")
            for layer in backbone.layers[: num_layers - self.fine_tune_depth]:
                layer.trainable = False
        momentum = self.batchnorm_momentum
        if momentum is None and self.weights is None:
            momentum = FROM_SCRATCH_MOMENTUM
        for layer in backbone.layers:
            if momentum is not None and isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = momentum
        return backbone

    def _with_weights(self, input_shape: tuple[int, int, int]) -> keras.Model:
        import keras

        if self.weights not in (None, "imagenet") and not Path(self.weights).is_file():
            raise ConfigError(f"weights must be null, imagenet or the path of a file; there is no file {self.weights!r}")
        try:
            with warnings.catch_warnings():
                # Keras warns of layers that a file does not hold, and leaves them random.
                warnings.simplefilter("error", UserWarning)
                # It also warns that ImageNet weights were trained at 224 pixels. They fit other sizes; that is what transfer is.
                warnings.filterwarnings("ignore", message=".*input_shape.*")
                return keras.applications.MobileNetV2(
                    input_shape=input_shape, alpha=self.alpha, include_top=False, weights=self.weights, name="backbone"
                )
        except Exception as error:
            if self.weights is None:
                raise
            raise ConfigError(self._weights_message(error)) from error

    def _weights_message(self, error: Exception) -> str:
        first_line = str(error).strip().split("\n")[0][:200]
        if self.weights == "imagenet" and isinstance(error, OSError) and "open file" in first_line:  # by HDF5; a connection says otherwise
            return (
                f"weights imagenet are not whole in Keras' folder of downloads ($KERAS_HOME/models, else ~/.keras/models; {first_line}): "
                f"a download was cut short; delete mobilenet_v2_*_{self.alpha}_*_no_top.h5 there and run again"
            )
        if self.weights == "imagenet":
            return f"weights imagenet could not be downloaded ({first_line}): set weights to the path of a local file, or to null"
        rule = f"weights must be a Keras weights file of MobileNetV2 with alpha {self.alpha} and without its top"
        return f"{rule}; {self.weights!r} does not fit ({first_line})"


def input_dtype(dtype: np.dtype) -> str:
    """Return the integer type in which a network takes arrays of `dtype`: bytes stay bytes, all else is int32."""
    return "uint8" if dtype == np.uint8 else "int32"


def as_images(inputs: Any, view: View) -> Any:
    """Turn a view's integers into float images of 3 channels in [-1, 1]."""
    import keras

    if view.table is None:
        x = keras.layers.Rescaling(view.scale, view.offset, name="scale")(inputs)
        if len(x.shape) == 3:
            x = keras.layers.Reshape((*x.shape[1:], 1), name="channel")(x)
    else:
        # A look-up and its gradient, a sum over equal symbols, take a small part of the time and memory of one-hot vectors times
        # the table (benchmarks/train.py).
        table = keras.layers.Embedding(*view.table.shape, trainable=view.trainable, name="table")
        x = table(inputs)
        table.set_weights([view.table])
    return x if x.shape[-1] == 3 else keras.layers.Concatenate(name="gray")([x, x, x])
