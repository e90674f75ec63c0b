"""Batches read from a view as they are needed, so that memory does not grow with the data set."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from ppdl.errors import ConfigError, DataError
from ppdl.protections.view import View
from ppdl.training.networks.augment import Augmentation
from ppdl.training.networks.model import input_dtype

_CHUNK = 256  # rows read at a time where the whole view is gone through


class Batches(keras.utils.PyDataset):
    """Give images of a view batch by batch.

    Every batch is a function of the seed, the epoch and its number alone, whatever thread asks for it and in whatever order; an
    interrupted training therefore goes on with the very batches that it would have seen.

    Args:
        view: What the network is fed.
        rows: Rows of the view, (num_rows,) int.
        targets: (num_rows, num_classes) float32, or None to give images alone.
        batch_size: Images a batch.
        sample_weights: (num_rows,) float32, or None.
        seed: None: in the order of `rows`, last batch as it comes. Else shuffled, and the last batch is filled up from the epoch's first
            images: BatchNorm never sees a batch of a few images, and no step has a shape of its own.
        augmentation: Applied to each image; needs a seed.
    """

    def __init__(
        self,
        view: View,
        rows: np.ndarray,
        targets: np.ndarray | None = None,
        *,
        batch_size: int,
        sample_weights: np.ndarray | None = None,
        seed: int | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        # With fewer than two reading threads Keras reads through tf.data's autotuning, whose iterators, when an epoch ends, wait for
        # a sleeping thread: 1 to 5 s with both cores idle (TensorFlow 2.21; benchmarks/train.py shows it in plain `fit`).
        super().__init__(workers=2)
        if augmentation is not None and seed is None:
            raise ConfigError("augmentation needs a seed to be drawn from, got None")
        self.view, self.rows, self.targets, self.sample_weights = view, rows, targets, sample_weights
        self.batch_size = batch_size if seed is None else min(batch_size, len(rows))
        self.seed, self.augmentation = seed, augmentation
        self._dtype = input_dtype(view.array.dtype)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, and with it the order and the augmentation."""
        self.epoch = epoch
        order = np.arange(len(self.rows))
        if self.seed is not None:
            np.random.default_rng([self.seed, epoch]).shuffle(order)
            order = np.resize(order, len(self) * self.batch_size)  # repeats from the start
        self._order = order

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, batch: int) -> tuple[np.ndarray, ...]:
        places = self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
        images = np.asarray(self.view.array[self.rows[places]], self._dtype)
        if self.augmentation is not None and self.seed is not None:
            images = self.augmentation(images, np.random.default_rng([self.seed, self.epoch, batch]))
        parts: list[Any] = [images]
        parts += [] if self.targets is None else [self.targets[places]]
        parts += [] if self.sample_weights is None else [self.sample_weights[places]]
        return tuple(parts)


def check_symbols(view: View, rows: np.ndarray) -> None:
    """Refuse symbols that the view's table does not have.

    Raises:
        DataError: names the first row with such a symbol.

    Cost: reads the rows once, unless the array's type rules such symbols out.
    """
    if view.table is None:
        return
    num_symbols, limits = len(view.table), np.iinfo(view.array.dtype)
    if limits.min >= 0 and limits.max < num_symbols:
        return
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        images = np.asarray(view.array[chunk]).reshape(len(chunk), -1)
        wrong = (images < 0) | (images >= num_symbols)
        if wrong.any():
            i, j = np.argwhere(wrong)[0]
            raise DataError(f"view {view.name!r}: symbols must lie in [0, {num_symbols}), row {chunk[i]} holds {images[i, j]}")
