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
        """Choose a head by folds of the training and validation films, train it on all of them, and ask it about the test images."""
        prepared = self.experiment.prepared
        films, rows = prepared.rows("train", "validation"), prepared.rows("test")
        origin = Origin(PREPARED, prepared.meta["images_sha256"], confidential=False, key_fingerprint=None, note=NOTE)
        with self.tracked(origin, stage) as tracked:
            found = self.judge(features, films)
            best, figures, temperature = found[0]
            tracked.log_summary(figures | {"temperature": temperature, "strength": best.strength, "input_px": best.input_px})
            answers = self.ask(best, features, films, rows) / temperature
        candidates = [dataclasses.asdict(candidate) | row for candidate, row, _ in found]
        return Chosen(predictions_of(prepared, rows, answers), candidates)

    def judge(self, features: Mapping[int, np.ndarray], films: np.ndarray) -> list[tuple[Candidate, dict[str, float], float]]:
        """Return what heads of the other folds say of some films, for each candidate with its temperature, the best first.

        The order is by the log loss at the temperature that suits a candidate best, since a ridge head's scores are no logits.
        """
        index, head = self.experiment.prepared.index, self.head
        labels, groups = index["label"].to_numpy()[films], np.unique(index["group"].to_numpy()[films], return_inverse=True)[1]
        folds, found = list(inner_folds(labels, groups, head.num_folds, seed=self.experiment.cfg.seed)), []
        for candidate in head.candidates():
            of_films = _shown(features, candidate)[films]
            logits = np.empty((len(films), len(self.experiment.prepared.class_names)))
            for inside, outside in folds:
                logits[outside] = head.train(candidate, of_films[inside], labels[inside]).logits(of_films[outside])
            found.append((candidate, *validated(labels, logits)))
        return sorted(found, key=lambda entry: entry[1]["val_log_loss"])

    def ask(self, candidate: Candidate, features: Mapping[int, np.ndarray], films: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the logits, (num_rows, num_classes), of a head that is trained on some films about other images."""
        of_all = _shown(features, candidate)
        return self.head.train(candidate, of_all[films], self.experiment.prepared.index["label"].to_numpy()[films]).logits(of_all[rows])


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
