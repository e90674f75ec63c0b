"""Heads on frozen features, in the clear: candidates for the strongest plain run, of a cross-validation alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.config import build
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.evaluation.predictions.calibration import calibrate
from ppdl.evaluation.predictions.predictions import Predictions, predictions_of
from ppdl.experiment.experiment import PREPARED, Experiment
from ppdl.experiment.training.run import PLAIN, Origin, Run
from ppdl.training.fitting.frozen import Candidate, FrozenHead, inner_folds

NOTE = "A plain run: a linear head on features of a frozen network, chosen among candidates by folds of the training films alone."


@dataclass(frozen=True, eq=False)
class Chosen:
    """Hold what choosing a head gave.

    Attributes:
        predictions: of the test images.
        candidates: one mapping each, the chosen one first: what it is, and accuracy and log loss (at its own temperature) of training
            films by heads of the other folds.
    """

    predictions: Predictions
    candidates: list[dict[str, Any]]


class FrozenRun(Run):
    """A linear head on frozen features of plain images; its name is a key of `frozen`."""

    is_control = False
    key_purpose = None
    draws = True  # the inner folds

    @property
    def folder(self) -> Path:
        return Path("models/frozen") / self.name

    @property
    def head(self) -> FrozenHead:
        """The candidates."""
        found: FrozenHead = build(self.experiment.cfg.frozen[self.name], f"frozen.{self.name}")
        return found

    @property
    def input_px(self) -> int | None:
        sizes = self.head.input_px
        return sizes[0] if len(sizes) == 1 else None

    def features(self, px: int) -> np.ndarray:
        """Compute the features of all prepared images at a size: (1 or 2, num_images, num_features), see `FrozenHead.features`."""
        return self.head.features(Reduced(self.experiment.prepared.images, px))

    def predict(self) -> Predictions:
        """Choose a head and return what it says of the test images."""
        return self.train({px: self.features(px) for px in self.head.input_px}, stage="stages.crossval").predictions

    def train(self, features: Mapping[int, np.ndarray], *, stage: str) -> Chosen:
        """Choose a head by folds of the training and validation films, train it on all of them, and ask it about the test images.

        The choice is by the log loss at the temperature that suits a candidate best, since a ridge head's scores are no logits.
        """
        prepared = self.experiment.prepared
        index, films = prepared.index, prepared.rows("train", "validation")
        labels, groups = index["label"].to_numpy()[films], np.unique(index["group"].to_numpy()[films], return_inverse=True)[1]
        head, rows = self.head, prepared.rows("test")
        folds = list(inner_folds(labels, groups, head.num_folds, seed=self.experiment.cfg.seed))
        origin = Origin(PREPARED, prepared.meta["images_sha256"], confidential=False, key_fingerprint=None, note=NOTE)
        with self.tracked(origin, stage) as tracked:
            found = []
            for candidate in head.candidates():
                of_films = _shown(features, candidate)[films]
                logits = np.empty((len(films), len(prepared.class_names)))
                for inside, outside in folds:
                    logits[outside] = head.train(candidate, of_films[inside], labels[inside]).logits(of_films[outside])
                found.append((candidate, *validated(labels, logits)))
            found.sort(key=lambda entry: entry[1]["val_log_loss"])
            best, figures, temperature = found[0]
            tracked.log_summary(figures | {"temperature": temperature, "strength": best.strength, "input_px": best.input_px})
            of_all = _shown(features, best)
            answers = head.train(best, of_all[films], labels).logits(of_all[rows]) / temperature
        candidates = [dataclasses.asdict(candidate) | row for candidate, row, _ in found]
        return Chosen(predictions_of(prepared, rows, answers), candidates)


def validated(labels: np.ndarray, logits: np.ndarray) -> tuple[dict[str, float], float]:
    """Return accuracy and log loss of films that chose nothing but the temperature, and that temperature."""
    fit = calibrate(labels, logits)
    return {"val_accuracy": float((logits.argmax(axis=1) == labels).mean()), "val_log_loss": fit.figures["nll_after"]}, fit.temperature


def _shown(features: Mapping[int, np.ndarray], candidate: Candidate) -> np.ndarray:
    """Return features of all images as a candidate sees them, (num_images, num_features)."""
    ways = features[candidate.input_px]
    return ways.mean(axis=0) if candidate.flips else ways[0]


def frozen_runs(experiment: Experiment) -> list[FrozenRun]:
    """List the heads on frozen features of the configuration."""
    return [FrozenRun(experiment, name, PLAIN, "features") for name in experiment.cfg.get("frozen") or {}]
