"""What the tests of training train: also imported by the processes that they start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ppdl.config import construct
from ppdl.protections.view import View
from ppdl.training.fitting.settings import Training
from ppdl.training.networks.model import MobileNetV2

NUM_CLASSES = 3
NUM_IMAGES = 120
TRAIN_ROWS, VALIDATION_ROWS = np.arange(90), np.arange(90, NUM_IMAGES)


def images_and_labels(num_images: int = NUM_IMAGES, px: int = 32, noise: float = 20, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return noise over flat, horizontally and vertically striped images, (num_images, px, px) uint8, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % NUM_CLASSES
    stripes = np.where(np.arange(px) // 4 % 2, 60, -60)
    patterns = np.stack([np.zeros((px, px)), np.tile(stripes[:, None], px), np.tile(stripes, (px, 1))])
    images = 128 + patterns[labels] + rng.normal(0, noise, (num_images, px, px))
    return images.clip(0, 255).astype(np.uint8), labels


@dataclass(frozen=True)
class TinyNet:
    """Stand in for MobileNetV2 where the network does not matter: a graph of a few nodes."""

    dropout: float = 0.1

    def build(self, view: View, num_classes: int) -> Any:
        import keras

        inputs = keras.Input(view.array.shape[1:], dtype="uint8", name="view")
        x = keras.layers.Rescaling(view.scale, view.offset)(inputs)
        x = keras.layers.Reshape((*view.array.shape[1:], 1))(x)
        x = keras.layers.Conv2D(8, 5, strides=2, use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.8)(x))
        x = keras.layers.Dropout(self.dropout)(keras.layers.GlobalAveragePooling2D()(x))
        return keras.Model(inputs, keras.layers.Dense(num_classes)(x))


@dataclass(frozen=True)
class Narrow(MobileNetV2):
    """MobileNetV2 with three layers for its backbone: for pipelines of which a test asks all but what the network is."""

    def _with_weights(self, input_shape: tuple[int, int, int]) -> Any:
        import keras

        inputs = keras.Input(input_shape)
        x = keras.layers.Conv2D(8, 5, strides=4, use_bias=False)(inputs)
        return keras.Model(inputs, keras.layers.ReLU()(keras.layers.BatchNormalization()(x)), name="backbone")


def training(**changes: Any) -> Training:
    """Return a short training with `changes`."""
    values = {
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "warmup_epochs": 0.5,
        "weight_decay": 1e-4,
        "label_smoothing": 0.05,
        "class_weights": None,
        "augmentation": {"flip": True, "shift": 0.1},
        "early_stopping_patience": None,
        "num_threads": None,
        "devices": 1,
    }
    return construct(Training, values | changes, "training")
