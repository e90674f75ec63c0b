"""One way to train and track any network, and to open it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from ppdl.config import PROJECT, Workspace, build, checkout
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.errors import ConfigError
from ppdl.evaluation.predictions.calibration import Calibration, calibrate
from ppdl.experiment.training.runs import Run, prepared_data, runs_of, spec_of
from ppdl.experiment.training.source import Source, open_source
from ppdl.protections.view import View

if TYPE_CHECKING:
    from ppdl.tracking import TrainingRun
    from ppdl.training.fitting.callbacks import OnEpoch
    from ppdl.training.fitting.pruning import MedianStopping
    from ppdl.training.fitting.result import FitResult


def train_branch(cfg: DictConfig, workspace: Workspace, branch: str, *, stage: str) -> float:
    """Train every view of one branch and track each as one MLflow run.

    Returns:
        What a sweep minimises, see `FitResult.objective`: of the branch's first view, which carries its name.
    """
    build(cfg.model, "model"), build(cfg.training, "training")  # a wrong value is named before any data is read
    prepared = prepared_data(cfg, workspace)
    rows = {name: prepared.rows(name) for name in ("train", "validation", "test")}
    results = [train(cfg, workspace, run, prepared, rows, stage=stage) for run in runs_of(cfg, branch)]
    return results[0].objective


def train(
    cfg: DictConfig,
    workspace: Workspace,
    run: Run,
    prepared: Prepared,
    rows: dict[str, np.ndarray],
    *,
    stage: str,
    progress: bool = True,
    keep_model: bool = True,
) -> FitResult:
    """Train one run, track it, write its model folder.

    Args:
        rows: row numbers of `train`, `validation` and `test`; of the last only the number is used.
        stage: module that trains, for the run's tags.
        keep_model: False for one fold of many: the model is neither written nor logged.
    """
    from ppdl.evaluation.figures.history import plot_history
    from ppdl.tracking import start_training_run
    from ppdl.training.fitting.fit import fit

    model, training, rule = build(cfg.model, "model"), build(cfg.training, "training"), _pruning(cfg, workspace)
    source = open_source(cfg, workspace, run, prepared, rows["train"])
    spec = spec_of(
        cfg,
        workspace,
        run,
        prepared,
        rows,
        stage=stage,
        path=source.path,
        sha256=source.sha256,
        confidential=source.confidential,
        key_fingerprint=source.key_fingerprint,
        description=source.note,
    )
    with start_training_run(spec, store_root=checkout(), project=PROJECT, experiment=cfg.tracking.experiment) as tracked:
        result = fit(
            source.view,
            prepared.index["label"].to_numpy(),
            rows["train"],
            rows["validation"],
            model=model,
            training=training,
            num_classes=len(prepared.class_names),
            seed=cfg.seed,
            state_dir=workspace.unfinished / "training" / run.name,
            on_epoch=_after_epoch(rule, workspace, run, tracked),
            progress=progress,
        )
        tracked.log_history(result.history)
        tracked.log_summary(result.summary | source.facts)
        tracked.log_figure("history", plot_history(result.history, title=run.name))
        if keep_model:
            found = _calibrate(result, source.view, prepared, rows["validation"], training.batch_size)
            _keep(workspace.outputs / run.folder, result, found, source, prepared, tracked)
    return result


def _pruning(cfg: DictConfig, workspace: Workspace) -> MedianStopping | None:
    if cfg.pruning is not None and workspace.job is None:
        raise ConfigError("pruning compares the jobs of a sweep, and this is none: set pruning=null, or start a sweep with -m")
    return None if cfg.pruning is None else build(cfg.pruning, "pruning")


def _after_epoch(rule: MedianStopping | None, workspace: Workspace, run: Run, tracked: TrainingRun) -> OnEpoch:
    """Return what follows each epoch: it is logged, and `rule` may end the training."""
    if rule is None or workspace.sweep is None:
        return tracked.log_epoch
    from ppdl.tracking.runs.sweep import PRUNED, finished_losses

    losses: list[float] = []
    sweep = Path(workspace.sweep)

    def after_epoch(epoch: int, row: Mapping[str, Any]) -> bool:
        tracked.log_epoch(epoch, row)
        losses.append(row["val_log_loss"])
        stop = rule.stops(losses, finished_losses(sweep, run.name))
        if stop:
            tracked.mark(PRUNED)
        return stop

    return after_epoch


def _calibrate(result: FitResult, view: View, prepared: Prepared, validation_rows: np.ndarray, batch_size: int) -> Calibration:
    """Fit the temperature of a trained network; no test image has a part in it."""
    from ppdl.training.networks.predict import predict_logits

    labels = prepared.index["label"].to_numpy()[validation_rows]
    return calibrate(labels, predict_logits(result.model, view, validation_rows, batch_size))


def _keep(folder: Path, result: FitResult, calibration: Calibration, source: Source, prepared: Prepared, tracked: TrainingRun) -> None:
    from ppdl.training.networks.predict import save_model

    save_model(result.model, folder / "model.keras")
    result.history.to_csv(folder / "history.csv", index=False)
    calibration.write(folder)
    tracked.log_summary(calibration.figures)
    tracked.log_model(
        folder / "model.keras",
        result.model,
        num_symbols=256 if source.view.table is None else len(source.view.table),
        step=result.best_epoch,
        class_names=prepared.class_names,
        calibration=dataclasses.asdict(calibration),
    )
    tracked.write_record(folder / "run.json")


@dataclass(frozen=True, eq=False)
class Trained:
    """Hold a trained network and the view of all images that it is fed."""

    view: View
    model: Any

    @cached_property
    def fused(self) -> Any:
        """The network as it is quickest to ask, see `ppdl.training.networks.fused`."""
        from ppdl.training.networks.fused import fused

        return fused(self.model)


def open_trained(cfg: DictConfig, workspace: Workspace, run: Run, prepared: Prepared) -> Trained:
    """Load the network of a run, and open what it is fed."""
    from ppdl.training.networks.predict import load_model

    view = open_source(cfg, workspace, run, prepared, prepared.rows("train")).view
    return Trained(view, load_model(workspace.inputs / run.folder / "model.keras"))
