"""One network that hospitals train in turn: its weights, and the statistics of its BatchNorm layers, as flat vectors.

BatchNorm normalises by the batch while it trains, so its moving averages decide nothing until the network is asked. They are set then, to
the mean and variance of what enters each layer under the new weights, over the films of all hospitals: averages that hospitals kept
while their weights differed would be of other networks. Variances do not average, mean squares do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ppdl.errors import ConfigError, DivergedError
from ppdl.protections.view import View
from ppdl.training.fitting.session import compiled
from ppdl.training.fitting.settings import Training
from ppdl.training.fitting.threads import set_num_threads
from ppdl.training.networks.data import Batches
from ppdl.training.networks.model import MobileNetV2

_EVALUATED = 64  # films at a time


@dataclass(frozen=True, eq=False)
class Trained:
    """What a hospital has after a round: its weights (num_weights,) float32, and its optimizer's variables, which stay with it."""

    weights: np.ndarray
    optimizer: Sequence[np.ndarray]


def begun(model: MobileNetV2, view: View, num_classes: int, seed: int) -> keras.Model:
    """Build the network that a federation starts from; `seed` decides what is random in it."""
    keras.utils.set_random_seed(seed)
    return model.build(view, num_classes)


class Network:
    """A network as the parties of a federation see it: the weights that are averaged, and the moments that BatchNorm takes.

    Args:
        model: a network as it starts. training: as of a central training. The rate is that of each round.

    Attributes:
        sizes: channels of each BatchNorm layer that learns. moments_before: the moments that the network starts with, see `Local.moments`.

    Raises:
        ConfigError: several devices.
    """

    def __init__(self, model: keras.Model, training: Training) -> None:
        if training.devices > 1:
            raise ConfigError(f"training.devices must be 1 where hospitals train in turn, got {training.devices}")
        set_num_threads(training.num_threads)
        self.training, self.model, self.network = training, model, compiled(model, training, training.learning_rate)
        norms = [
            layer for layer in self.network._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        ]
        for layer in norms:
            layer.momentum = 0.0  # its averages are those of the last batch
        self._weights = list(self.network.trainable_variables)
        self._means, self._variances = [layer.moving_mean for layer in norms], [layer.moving_variance for layer in norms]
        self.sizes = [int(np.prod(v.shape)) for v in self._means]
        means = _flat(self._means).astype(np.float64)
        self.moments_before = np.concatenate([means, _flat(self._variances) + means**2])

    @property
    def weights(self) -> np.ndarray:
        """All that is trained, float32 (num_weights,)."""
        return _flat(self._weights)

    def set(self, weights: np.ndarray, moments: np.ndarray) -> None:
        """Give the network its weights, and its BatchNorm layers the statistics that moments say."""
        means, squares = np.split(moments, 2)
        _assign(self._weights, weights)
        _assign(self._means, means)
        _assign(self._variances, np.maximum(squares - means**2, 0))

    def averaged(self, weights: np.ndarray, moments: np.ndarray) -> keras.Model:
        """Return the model with weights and moments, to be kept."""
        self.set(weights, moments)
        self.model.set_weights(self.network.get_weights())
        return self.model


class Local(Network):
    """Train and ask one network for hospitals.

    Args:
        model, training: see `Network`.
        view: What the network is fed.
        labels: (num_images,) int in [0, num_classes), one for each row of the view.
        rows: By hospital, row numbers of its training films. A hospital may lack classes.
        hospitals: names of all that take part, those of `rows` among them.
        class_counts: Of all hospitals' training films, (num_classes,), none 0; with training.class_weights they weigh the classes.
        seed: Of order, augmentation and dropout.
    """

    def __init__(
        self,
        model: keras.Model,
        training: Training,
        view: View,
        labels: np.ndarray,
        rows: Mapping[str, np.ndarray],
        *,
        hospitals: Sequence[str],
        class_counts: np.ndarray,
        seed: int,
    ) -> None:
        super().__init__(model, training)
        self.view = view
        self._dropout = [v for v in self.network.variables if v.name == "seed_generator_state"]
        self._fresh = [np.array(v) for v in self.network.optimizer.variables]
        targets = np.eye(len(class_counts), dtype=np.float32)
        weigh = None
        if training.class_weights == "balanced":
            weigh = (class_counts.sum() / (len(class_counts) * class_counts)).astype(np.float32)
        seeds = dict(zip(hospitals, np.random.SeedSequence(seed).generate_state(len(hospitals)).tolist(), strict=True))
        self._seeds, self._batches, self._plain = seeds, dict[str, Batches](), dict[str, Batches]()
        for name, own in rows.items():
            few = {"batch_size": training.batch_size, "seed": seeds[name]}
            weights = None if weigh is None else weigh[labels[own]]
            augmentation = training.augmenter
            self._batches[name] = Batches(view, own, targets[labels[own]], sample_weights=weights, augmentation=augmentation, **few)
            self._plain[name] = Batches(view, own, batch_size=_EVALUATED, seed=seeds[name])
        self._forward = _in_training_mode(self.network)

    def train(
        self, name: str, weights: np.ndarray, optimizer: Sequence[np.ndarray] | None, *, number: int, epochs: int, rate: float
    ) -> Trained:
        """Train at one hospital, in round `number`, from the round's weights.

        Args:
            optimizer: the hospital's, after its last round; None: it begins.

        Raises:
            DivergedError: a weight is no number any more.
        """
        _assign(self._weights, weights)
        for variable, value in zip(self.network.optimizer.variables, optimizer or self._fresh, strict=True):
            variable.assign(value)
        self.network.optimizer.learning_rate = rate
        for variable in self._dropout:
            variable.assign(np.array([self._seeds[name], number], np.uint32))
        batches = self._batches[name]
        for epoch in range(number * epochs, (number + 1) * epochs):
            batches.set_epoch(epoch)
            for batch in range(len(batches)):
                self.network.train_on_batch(*batches[batch])
        if not np.isfinite(found := self.weights).all():
            raise DivergedError(f"training.learning_rate is too high: weights of {name} are no numbers after round {number + 1}: lower it")
        return Trained(found, [np.array(v) for v in self.network.optimizer.variables])

    def moments(self, name: str, weights: np.ndarray) -> np.ndarray:
        """Return the means of what enters each BatchNorm layer over a hospital's films, then the mean squares: float64.

        Films go through in batches of 64 in an order of their own, for one that is sorted by class normalises each class by itself.
        """
        _assign(self._weights, weights)
        batches = self._plain[name]
        means = squares = np.zeros(sum(self.sizes))
        for batch in range(len(batches)):
            self._forward(batches[batch][0])
            mean, variance = _flat(self._means).astype(np.float64), _flat(self._variances).astype(np.float64)
            means, squares = means + mean / len(batches), squares + (variance + mean**2) / len(batches)
        return np.concatenate([means, squares])

    def logits(self, rows: np.ndarray, weights: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Return what the network says of some films with these weights and moments: (num_rows, num_classes) float32."""
        self.set(weights, moments)
        return np.asarray(self.network.predict(Batches(self.view, rows, batch_size=_EVALUATED), verbose=0), np.float32)


def _in_training_mode(network: keras.Model) -> Any:
    import tensorflow as tf

    return tf.function(lambda images: network(images, training=True), reduce_retracing=True)


def _flat(variables: Sequence[keras.Variable]) -> np.ndarray:
    return np.concatenate([keras.ops.convert_to_numpy(v).reshape(-1) for v in variables])


def _assign(variables: Sequence[keras.Variable], flat: np.ndarray) -> None:
    ends = np.cumsum([int(np.prod(v.shape)) for v in variables])[:-1]
    for variable, part in zip(variables, np.split(flat, ends), strict=True):
        variable.assign(part.reshape(variable.shape).astype(np.float32))
