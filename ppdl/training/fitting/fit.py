"""Train a network on a view: one path for plain and for encrypted images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.errors import ConfigError, DataError
from ppdl.protections.view import View
from ppdl.training.fitting.result import FitResult
from ppdl.training.fitting.settings import Training
from ppdl.training.networks.model import MobileNetV2

if TYPE_CHECKING:
    import keras


def fit(
    view: View,
    labels: np.ndarray,
    train_rows: np.ndarray,
    validation_rows: np.ndarray,
    *,
    model: MobileNetV2,
    training: Training,
    num_classes: int,
    seed: int,
    state_dir: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_epoch: Callable[[int, Mapping[str, Any]], bool | None] | None = None,
    progress: bool,
) -> FitResult:
    """Train a network on a view.

    Args:
        view: What the network is fed.
        labels: (num_images,) int in [0, num_classes), one for each row of the view.
        train_rows: Row numbers, (num_train,) int.
        validation_rows: Row numbers, none of them in `train_rows`.
        seed: Of weights, order, augmentation and dropout. Sets the global seeds of Python, NumPy and TensorFlow.
        state_dir: A folder of this training alone. After each epoch it holds what is needed to go on after a kill; the same call
            then goes on, one with other parameters or data starts over. Its contents are removed at the end.
        callbacks: Called after our own, whose `learning_rate`, `images_per_s` and `seconds` are in the logs of an epoch.
        on_epoch: Called with each epoch's number and its row of the history; true ends the training there. Resuming calls neither for
            epochs done before.
        progress: Show a bar.

    Raises:
        ConfigError: The parameters do not fit the data or the weights.
        DivergedError: The loss became NaN.
        DataError: Labels, rows or symbols are wrong.
    """
    started = time.perf_counter()
    labels, rows = _checked(view, np.asarray(labels), train_rows, validation_rows, num_classes)
    from ppdl.training.fitting.threads import set_num_threads

    set_num_threads(training.num_threads)  # before TensorFlow's first operation
    from ppdl.training.fitting.session import Session

    session = Session(
        view, labels, rows, model=model, training=training, num_classes=num_classes, seed=seed, state_dir=state_dir, started=started
    )
    return session.run(callbacks, on_epoch, progress)


def _checked(
    view: View, labels: np.ndarray, train_rows: np.ndarray, validation_rows: np.ndarray, num_classes: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    num_images = len(view.array)
    if labels.shape != (num_images,) or labels.dtype.kind not in "iu":
        rule = f"labels must be {num_images} integers, one for each image of view {view.name!r}"
        raise DataError(f"{rule}, got {labels.shape} {labels.dtype}")
    if num_classes < 2:
        raise ConfigError(f"a classifier needs at least 2 classes, got {num_classes}")
    train, validation = (_checked_rows(name, r, num_images) for name, r in (("train", train_rows), ("validation", validation_rows)))
    if len(both := np.intersect1d(train, validation)):
        raise DataError(f"train and validation must not share images, yet {len(both)} are in both, the first is row {both[0]}")
    used = labels[np.concatenate([train, validation])]
    if used.min() < 0 or used.max() >= num_classes:
        raise DataError(f"labels must lie in [0, {num_classes}), got {used.min()} to {used.max()}")
    missing = np.setdiff1d(np.arange(num_classes), labels[train])
    if len(missing):
        raise DataError(f"every class needs a training image; there is none of class {', '.join(map(str, missing))}")
    return labels, (train, validation)


def _checked_rows(name: str, rows: np.ndarray, num_images: int) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu":
        raise DataError(f"the {name} split must be a list of at least one row number, got {rows.shape} {rows.dtype}")
    if rows.min() < 0 or rows.max() >= num_images:
        raise DataError(f"rows of the {name} split must lie in [0, {num_images}), got {rows.min()} to {rows.max()}")
    if len(np.unique(rows)) < len(rows):
        raise DataError(f"the {name} split must not hold an image twice, got {len(rows) - len(np.unique(rows))} repeated rows")
    return rows.astype(np.int64)
