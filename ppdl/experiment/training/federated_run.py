"""A network of several hospitals as a run of the experiment: where it lies, and what MLflow is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from ppdl.experiment.experiment import PREPARED, Experiment
from ppdl.experiment.training.network_run import NetworkRun
from ppdl.experiment.training.run import PIXELS, PLAIN, Origin
from ppdl.training.fitting.result import FitResult

if TYPE_CHECKING:
    from ppdl.tracking import TrainingRun

NOTE = (
    "The network was trained at **several hospitals** on their own plain images, by federated averaging: in each round a server added "
    "encrypted updates, and the key holder decrypted their sum. No image and no hospital's update was shown to anybody. All who take part "
    "have the network after each round, and what it tells of the images was not measured."
)


class FederatedRun(NetworkRun):
    """A network that hospitals average; its name is a key of `federations`."""

    verdict: ClassVar[Mapping[str, Any]] = {
        "best_ssim": None,
        "level": "not attacked",
        "sentence": "hospitals train on their own images, all see each round's network and sum of updates, and no attack was run on these",
    }

    @property
    def folder(self) -> Path:
        return Path("models") / self.name

    def tracked_rounds(self, stage: str) -> AbstractContextManager[TrainingRun]:
        """Start the MLflow run of a federation, see `tracked`."""
        sha256 = self.experiment.prepared.meta["images_sha256"]
        return self.tracked(Origin(PREPARED, sha256, confidential=False, key_fingerprint=None, note=NOTE), stage)

    def validated(self, logits: np.ndarray) -> dict[str, float]:
        """Return accuracy and losses of the validation images, of all hospitals together. No round is chosen by them."""
        prepared = self.experiment.prepared
        labels, smoothing = prepared.index["label"].to_numpy()[prepared.rows("validation")], self.experiment.cfg.training.label_smoothing
        logs = log_softmax(logits.astype(np.float64), axis=1)
        log_loss = float(-logs[np.arange(len(labels)), labels].mean())
        return {
            "val_loss": (1 - smoothing) * log_loss - smoothing * float(logs.mean()),
            "val_accuracy": float((logits.argmax(axis=1) == labels).mean()),
            "val_log_loss": log_loss,
        }

    def keep_averaged(
        self,
        models: tuple[Any, Any],
        history: Sequence[Mapping[str, Any]],
        summary: Mapping[str, float],
        tracked: TrainingRun,
    ) -> None:
        """Write the network of the last round as a training writes its own, and log it.

        Args:
            models: the network, and the copy of it that was trained.
            history: one row a round.
        """
        from ppdl.evaluation.figures.history import plot_histories

        rounds = pd.DataFrame(history)
        tracked.log_history(rounds)
        tracked.log_summary({**summary, "num_rounds": len(rounds), "num_weights": models[0].count_params()})
        tracked.log_figure("history", plot_histories({self.name: rounds}))
        self._keep(FitResult(*models, rounds, len(rounds) - 1, 0.0, 0), tracked)


def federated_run(experiment: Experiment, name: str) -> FederatedRun:
    """Return the run of a federation."""
    return FederatedRun(experiment, name, PLAIN, PIXELS)


def federated_runs(experiment: Experiment) -> list[FederatedRun]:
    """List the federations of the configuration."""
    return [federated_run(experiment, name) for name in experiment.cfg.get("federations") or {}]
