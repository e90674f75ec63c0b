"""Several devices for one training: each takes a part of every batch, and their gradients are added up."""

from __future__ import annotations

import contextlib
import functools
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import keras

from ppdl.errors import ConfigError
from ppdl.training.fitting.optimizer import FlatAdamW

if TYPE_CHECKING:
    import tensorflow as tf


def mirrored(num_devices: int) -> AbstractContextManager[object]:
    """Return the scope in which a network is built and compiled that trains on `num_devices` devices; for 1 it does nothing.

    GPUs where TensorFlow finds any, otherwise logical CPU devices (tf.config.set_logical_device_configuration), which serve for tests:
    one CPU is not faster as two.

    Raises:
        ConfigError: there are fewer devices.

    Source: tf.distribute.MirroredStrategy, synchronous data parallelism on one machine.
    """
    if num_devices == 1:
        return contextlib.nullcontext()
    scope: AbstractContextManager[object] = _strategy(num_devices).scope()
    return scope


@functools.cache
def _strategy(num_devices: int) -> tf.distribute.Strategy:
    """Make a strategy once a process: two of them number their reductions alike, and a second training would meet those of the first."""
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(found) < num_devices:
        names = ", ".join(device.name.removeprefix("/device:") for device in found)
        raise ConfigError(
            f"training.devices must be at most {len(found)}, the devices that TensorFlow finds here ({names}), got {num_devices}"
        )
    return tf.distribute.MirroredStrategy([device.name for device in found[:num_devices]])


def adamw(
    rate: keras.optimizers.schedules.LearningRateSchedule | float, weight_decay: float, network: keras.Model, num_devices: int
) -> keras.Optimizer:
    """Return AdamW that decays kernels alone: our fast one, or on several devices Keras' own, which knows how to add up gradients."""
    if num_devices == 1:
        return FlatAdamW(rate, weight_decay=weight_decay)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay([v for v in network.trainable_variables if v.name != "kernel"])
    return optimizer
