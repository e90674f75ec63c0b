"""Train a network on a view: one path for plain and for encrypted images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ppdl.errors import ConfigError, DataError
from ppdl.protections.base import View
from ppdl.training.networks.augment import Augmentation
from ppdl.training.networks.checks import check_integer, check_number
from ppdl.training.networks.model import MobileNetV2

if TYPE_CHECKING:
    import keras

LEAST_PART = 8
COLUMNS = ["epoch", "loss", "accuracy", "log_loss", "val_loss", "val_accuracy", "val_log_loss", "learning_rate", "images_per_s", "seconds"]


@dataclass(frozen=True)
class Training:
    """Say how to train.

    Args:
        epochs: Number of passes over the training images.
        batch_size: Images a step.
        learning_rate: The highest, reached after the warm-up; from there half a cosine leads to zero.
        warmup_epochs: Length of the linear warm-up, may be a fraction; less than `epochs`.
        weight_decay: Decoupled (AdamW), on kernels alone.
        label_smoothing: Share of the target spread over all classes, in the losses of training and validation.
        class_weights: "balanced": the training loss weighs a class by the inverse of its number of images; None: all images alike.
        augmentation: `flip` and `shift`, see Augmentation; None: none.
        early_stopping_patience: Epochs without a lower validation loss after which training stops; None: never. Either way the weights
            of the epoch with the lowest are the result.
        num_threads: Of the Keras backend, see `set_num_threads`; None: all cores.
        batch_parts: Parts of a batch that are computed, and normalised by BatchNorm, on their own, see `InParts`: keeps as many cores
            busy. Whatever the number of threads, for it changes (a little) what is learned.
        devices: GPUs that share each batch, see `mirrored`; BatchNorm sees the part of each on its own, so it too changes a little.

    Raises:
        ConfigError: An argument breaks its rule.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: float
    weight_decay: float
    label_smoothing: float
    class_weights: str | None
    augmentation: Augmentation | Mapping[str, Any] | None
    early_stopping_patience: int | None
    num_threads: int | None
    batch_parts: int
    devices: int

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, least=1)
        check_integer("batch_size", self.batch_size, least=1)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("warmup_epochs", self.warmup_epochs, least=0)
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(f"warmup_epochs must be less than epochs ({self.epochs}), got {self.warmup_epochs}")
        check_number("weight_decay", self.weight_decay, least=0)
        check_number("label_smoothing", self.label_smoothing, least=0, below=1)
        if self.class_weights not in (None, "balanced"):
            raise ConfigError(f"class_weights must be balanced or null, got {self.class_weights!r}")
        check_integer("early_stopping_patience", self.early_stopping_patience, least=1, optional="never stop early")
        check_integer("num_threads", self.num_threads, least=1, optional="all cores")
        check_integer("batch_parts", self.batch_parts, least=1)
        if self.batch_parts > 1 and self.batch_size < LEAST_PART * self.batch_parts:
            rule = f"batch_parts must leave BatchNorm at least {LEAST_PART} images a part"
            raise ConfigError(f"{rule}, got {self.batch_parts} with batch_size {self.batch_size}")
        check_integer("devices", self.devices, least=1)
        if self.devices > 1 and self.batch_size < LEAST_PART * self.devices:
            rule = f"batch_size is shared out over the devices and must leave each at least {LEAST_PART} images"
            raise ConfigError(f"{rule}, got {self.batch_size} with devices {self.devices}")
        if self.devices > 1 and self.batch_parts > 1:
            raise ConfigError(f"batch_parts is for the cores of one CPU: it must be 1 with devices {self.devices}, got {self.batch_parts}")
        if isinstance(self.augmentation, Mapping):
            object.__setattr__(self, "augmentation", _augmentation(self.augmentation))
        elif not isinstance(self.augmentation, Augmentation | None):
            raise ConfigError(f"augmentation must be null or {{flip: ..., shift: ...}}, got {self.augmentation!r}")

    @property
    def augmenter(self) -> Augmentation | None:
        """Return `augmentation` as what the constructor made of it."""
        return self.augmentation if isinstance(self.augmentation, Augmentation) else None


def _augmentation(node: Mapping[str, Any]) -> Augmentation:
    if set(node) != {"flip", "shift"}:
        raise ConfigError(f"augmentation must have the keys flip and shift and no others, got {', '.join(map(str, node)) or 'none'}")
    return Augmentation(**node)


@dataclass(frozen=True)
class FitResult:
    """A finished training.

    Attributes:
        model: With the weights of the best epoch; not compiled.
        history: One row an epoch, columns COLUMNS, also of epochs before an interruption. Epochs count from 0.
        best_epoch: The epoch with the lowest validation loss.
        seconds: Time spent, building the network included, without the time that an interrupted training lay still.
        first_epoch_overhead_s: What the first step of training and of validation took longer than later ones (tracing).
        first_new_epoch: The epoch at which this call began; above 0 when it resumed.
    """

    model: keras.Model
    history: pd.DataFrame
    best_epoch: int
    seconds: float
    first_epoch_overhead_s: float
    first_new_epoch: int

    @property
    def objective(self) -> float:
        """Return what a sweep minimises: mean -log p(true class) over the validation images, in nats, of the kept weights.

        Not accuracy, of which a hundred images know a hundred values, so that trials tie and luck decides between them; a proper score
        tells them apart. And not `val_loss`, which label smoothing, a parameter that is swept, moves by itself.
        """
        return float(self.history["val_log_loss"][self.best_epoch])

    @property
    def summary(self) -> dict[str, float]:
        """Return what a training has once, as numbers."""
        return {
            "best_epoch": self.best_epoch,
            "best_val_log_loss": self.objective,
            "best_val_accuracy": float(self.history["val_accuracy"][self.best_epoch]),
            "num_epochs": len(self.history),
            "seconds": self.seconds,
            "first_epoch_overhead_s": self.first_epoch_overhead_s,
            "images_per_s": float(self.history["images_per_s"].median()),
            "num_weights": self.model.count_params(),
        }


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
        seed: Of weights, order, augmentation and dropout. Sets the global seeds of Python, NumPy and the backend.
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
    check_integer("seed", seed, least=0)
    labels, rows = _checked(view, np.asarray(labels), train_rows, validation_rows, num_classes)
    from ppdl.training.fitting.threads import set_num_threads

    set_num_threads(training.num_threads, training.batch_parts)  # before the backend's first operation
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
