"""Networks of the experiment: how each is trained, tracked, opened again and asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ppdl.config import build
from ppdl.crypto.keys.purpose import ARCHIVE
from ppdl.errors import ConfigError
from ppdl.evaluation.predictions.calibration import Calibration, calibrate
from ppdl.evaluation.predictions.likeness import Likeness, fit_likeness
from ppdl.evaluation.predictions.predictions import Predictions, predictions_of
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.run import PIXELS, PLAIN, Run
from ppdl.experiment.training.source import Source, open_source, protection_of

if TYPE_CHECKING:
    from ppdl.records.trial import Trial
    from ppdl.tracking import TrainingRun
    from ppdl.training.fitting.callbacks import OnEpoch
    from ppdl.training.fitting.result import FitResult


class NetworkRun(Run):
    """A network that is trained on one view of plain images or of a protection."""

    draws = True

    @property
    def input_px(self) -> int:
        return int(self.experiment.cfg.input_px)

    @property
    def folder(self) -> Path:
        return Path("models") / self.branch / self.view

    @property
    def key_purpose(self) -> str | None:
        return None if self.branch == PLAIN else ARCHIVE

    @property
    def is_control(self) -> bool:
        return self.branch != PLAIN and not protection_of(self.experiment.cfg, self.branch).learnable

    @cached_property
    def source(self) -> Source:
        """What the network is fed, see `open_source`."""
        return open_source(self.experiment, self.branch, self.view)

    @cached_property
    def model(self) -> Any:
        """The trained network."""
        from ppdl.training.networks.predict import load_model

        return load_model(self.trained / "model.keras")

    @cached_property
    def fused(self) -> Any:
        """The trained network as it is quickest to ask, see `ppdl.training.networks.fused`."""
        from ppdl.training.networks.fused import fused

        return fused(self.model)

    def at(self, there: Experiment) -> Self:
        found = super().at(there)
        vars(found)["fused"] = self.fused  # the cache of the property: loading takes seconds
        return found

    def predict(self, model: Any = None, *, flips: bool = False) -> Predictions:
        """Return what the trained network says of the test images, or another `model` of the same view."""
        prepared, network = self.experiment.prepared, self.fused if model is None else model
        rows = prepared.rows("test")
        return predictions_of(prepared, rows, self.logits(network, rows, flips=flips))

    def logits(self, network: Any, rows: np.ndarray, *, flips: bool = False) -> np.ndarray:
        """Return the logits of some prepared images, with `flips` the mean of those of image and mirror image."""
        from ppdl.training.networks.predict import predict_flipped, predict_logits

        return (predict_flipped if flips else predict_logits)(network, self.source.view, rows, self.experiment.cfg.training.batch_size)

    def train(self, *, stage: str, progress: bool = True, keep_model: bool = True) -> FitResult:
        """Train, track, write the model folder.

        Args:
            stage: module that trains, for the run's tags.
            keep_model: False for one fold of many: the model is neither written nor logged.
        """
        from ppdl.evaluation.figures.history import plot_history
        from ppdl.training.fitting.fit import fit

        cfg, workspace, prepared = self.experiment.cfg, self.experiment.workspace, self.experiment.prepared
        model, training = build(cfg.model, "model"), build(cfg.training, "training")
        trial = workspace.trial if self.name == self.branch else None  # a sweep minimises what the first view of a branch comes to
        with self.tracked(self.source, stage) as tracked:
            result = fit(
                self.source.view,
                prepared.index["label"].to_numpy(),
                prepared.rows("train"),
                prepared.rows("validation"),
                model=model,
                training=training,
                num_classes=len(prepared.class_names),
                seed=cfg.seed,
                state_dir=workspace.unfinished / "training" / self.name,
                on_epoch=tracked.log_epoch if trial is None else _after_epoch(trial, tracked),
                progress=progress,
            )
            tracked.log_history(result.history)
            tracked.log_summary(result.summary | self.source.facts)
            tracked.log_figure("history", plot_history(result.history, title=self.name))
            if keep_model:
                self._keep(result, tracked)
        return result

    def _judge(self, result: FitResult) -> tuple[Calibration, Likeness | None]:
        """Fit the temperature of a trained network, and what its training images are like; no test image has a part in it."""
        from ppdl.training.networks.predict import predict_features

        prepared, view, batch_size = self.experiment.prepared, self.source.view, self.experiment.cfg.training.batch_size
        labels, groups = (prepared.index[name].to_numpy() for name in ("label", "group"))
        train, validation = prepared.rows("train"), prepared.rows("validation")
        logits, known = predict_features(result.network, view, validation, batch_size)
        calibration = calibrate(labels[validation], logits, self.validated_on)
        if known is None:
            return calibration, None
        _, features = predict_features(result.network, view, train, batch_size)
        return calibration, None if features is None else fit_likeness(features, labels[train], known, groups[validation])

    def _keep(self, result: FitResult, tracked: TrainingRun) -> None:
        from ppdl.training.networks.predict import save_model

        (calibration, likeness), table = self._judge(result), self.source.view.table
        save_model(result.model, self.out_dir / "model.keras")
        result.history.to_csv(self.out_dir / "history.csv", index=False)
        calibration.write(self.out_dir)
        if likeness is not None:
            likeness.save(self.out_dir)
        tracked.log_summary(calibration.figures)
        tracked.log_model(
            self.out_dir / "model.keras",
            result.model,
            num_symbols=256 if table is None else len(table),
            step=result.best_epoch,
            class_names=self.experiment.prepared.class_names,
            calibration=dataclasses.asdict(calibration),
        )
        tracked.write_record(self.out_dir / "run.json")


def network_runs(experiment: Experiment, branch: str | None = None) -> list[NetworkRun]:
    """List the networks of the configuration, or of one branch, plain first. The first view of a branch carries its name."""
    runs = [NetworkRun(experiment, PLAIN, PLAIN, PIXELS)]
    for key, node in experiment.cfg.protections.items():
        if not node.views:
            raise ConfigError(f"protections.{key}.views must name at least one view, got []")
        runs += [NetworkRun(experiment, key if i == 0 else f"{key}-{view}", key, view) for i, view in enumerate(node.views)]
    return [run for run in runs if branch in (None, run.branch)]


def train_branch(experiment: Experiment, branch: str, *, stage: str) -> float:
    """Train every view of one branch and track each as one MLflow run.

    Returns:
        What a sweep minimises, see `FitResult.objective`: of the branch's first view, which carries its name.
    """
    build(experiment.cfg.model, "model"), build(experiment.cfg.training, "training")  # a wrong value is named before any data is read
    first, *others = network_runs(experiment, branch)
    objective = first.train(stage=stage).objective
    if experiment.workspace.trial is None or not experiment.workspace.trial.pruned:
        for run in others:
            run.train(stage=stage)
    return objective


def _after_epoch(trial: Trial, tracked: TrainingRun) -> OnEpoch:
    """Return what follows each epoch of a trial: it is logged and reported, and Optuna's pruner may end the training."""
    from ppdl.tracking.runs.sweep import PRUNED

    def after_epoch(epoch: int, row: Mapping[str, Any]) -> bool:
        tracked.log_epoch(epoch, row)
        stop = trial.stops(epoch, row["val_log_loss"])
        if stop:
            tracked.mark(PRUNED)
        return stop

    return after_epoch
