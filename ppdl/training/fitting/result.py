"""What a training gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    import keras

COLUMNS = ["epoch", "loss", "accuracy", "log_loss", "val_loss", "val_accuracy", "val_log_loss", "learning_rate", "images_per_s", "seconds"]


@dataclass(frozen=True)
class FitResult:
    """A finished training.

    Attributes:
        model: With the weights of the best epoch; not compiled.
        network: The copy of it that was trained, see `ppdl.training.networks.fused`, with the same weights.
        history: One row an epoch, columns COLUMNS, also of epochs before an interruption. Epochs count from 0.
        best_epoch: The epoch with the lowest validation loss.
        seconds: Time spent, building the network included, without the time that an interrupted training lay still.
        first_new_epoch: The epoch at which this call began; above 0 when it resumed.
    """

    model: keras.Model
    network: keras.Model
    history: pd.DataFrame
    best_epoch: int
    seconds: float
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
            "images_per_s": float(self.history["images_per_s"].median()),
            "num_weights": self.model.count_params(),
        }
