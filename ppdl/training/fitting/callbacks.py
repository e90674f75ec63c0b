"""What happens round the steps of a training: timing, the progress bar, keeping the best weights and the state to resume from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from ppdl.errors import DivergedError
from ppdl.training.fitting.state import State, write_state
from ppdl.training.networks.data import Batches

OnEpoch = Callable[[int, Mapping[str, Any]], bool | None]


class Stopwatch(keras.callbacks.Callback):
    """Measure epochs, and add `learning_rate`, `images_per_s` and `seconds` to each epoch's logs.

    The first step of a training, which traces and compiles, is not counted in `images_per_s`, unless it is the only one.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self._is_first = True
        self._steps: list[float] = []
        self._begin = self._last = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._steps = []
        self._begin = self._last = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        self._steps.append(now - self._last)
        self._last = now

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        steps = (self._steps[1:] or self._steps) if self._is_first else self._steps
        self._is_first = False
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        logs["images_per_s"] = self.batch_size * len(steps) / sum(steps)
        logs["seconds"] = time.perf_counter() - self._begin


class FeedEpoch(keras.callbacks.Callback):
    """Tell the batches which epoch it is."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.set_epoch(epoch)


class RefuseNaN(keras.callbacks.Callback):
    """Stop with an explanation once the loss is no longer a number, for nothing comes back from there."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._check(logs["loss"], f"in step {batch}")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._check(logs["val_loss"], "in validation")

    def _check(self, loss: Any, where: str) -> None:
        if not math.isfinite(float(loss)):
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            raise DivergedError(
                f"training.learning_rate is too high: the loss became {float(loss)} in epoch {self._epoch} {where}, at rate {rate:.2g}. "
                "Lower training.learning_rate (a tenth is a good try) or raise training.warmup_epochs."
            )


class Keep(keras.callbacks.Callback):
    """Keep the history and the weights of the best epoch, write the state to resume from, stop when patience ends.

    The best epoch is the one with the lowest validation loss, the first of equals.
    """

    def __init__(self, folder: Path, digest: str, *, patience: int | None, state: State | None, started: float) -> None:
        super().__init__()
        self.folder, self.digest, self.patience = folder, digest, patience
        self.history = list(state.history) if state else []
        self.best_epoch = state.best_epoch if state else -1
        self.best = state.best if state else None
        self._started = started - (state.seconds if state else 0.0)

    @property
    def seconds(self) -> float:
        """Time since the training began, without the time that it lay killed."""
        return time.perf_counter() - self._started

    @property
    def finished(self) -> bool:
        """Whether patience has ended."""
        return self.patience is not None and len(self.history) - 1 - self.best_epoch >= self.patience

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.history.append({"epoch": epoch} | {name: float(value) for name, value in logs.items()})
        if self.best is None or logs["val_loss"] < self.history[self.best_epoch]["val_loss"]:
            self.best_epoch, self.best = epoch, [np.array(w) for w in self.model.get_weights()]
        model, optimizer = arrays(self.model.variables), arrays(self.model.optimizer.variables)
        state = State(self.history, self.best_epoch, self.best, model, optimizer, self.seconds)
        write_state(self.folder, self.digest, state)
        if self.finished:
            self.model.stop_training = True


def arrays(variables: list[keras.Variable]) -> list[np.ndarray]:
    """Return the values of variables."""
    return [keras.ops.convert_to_numpy(v) for v in variables]


class Report(keras.callbacks.Callback):
    """Hand each epoch's row of the history to a function, and stop when it says so."""

    def __init__(self, keep: Keep, on_epoch: OnEpoch) -> None:
        super().__init__()
        self.keep, self.on_epoch = keep, on_epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.on_epoch(epoch, dict(self.keep.history[-1])):
            self.model.stop_training = True


class Progress(keras.callbacks.Callback):
    """Show one bar an epoch, with images a second."""

    def __init__(self, batches: Batches, epochs: int) -> None:
        super().__init__()
        self.batches, self.epochs = batches, epochs
        self._bar: Any = None  # between epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        width = len(str(self.epochs))
        name = f"epoch {epoch + 1:{width}}/{self.epochs}"
        self._bar = tqdm(total=len(self.batches) * self.batches.batch_size, desc=name, unit="img", dynamic_ncols=True, mininterval=0.5)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._bar.set_postfix_str(f"loss {float(logs['loss']):.3f}, accuracy {float(logs['accuracy']):.3f}", refresh=False)
        self._bar.update(self.batches.batch_size)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        shown = ", ".join(f"{name} {logs[name]:.3f}" for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
        self._bar.set_postfix_str(shown)
        self.close()

    def close(self) -> None:
        """Leave the terminal in order, also after an error."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
