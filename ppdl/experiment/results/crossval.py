"""Cross-validate plain and every protection on the same folds: train side by side, pool the test predictions.

Results are kept fold by fold, so that an interrupted run continues with the trainings that are missing.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from ppdl.config import Workspace, construct, differing, read_built_for, shown, write_built_for
from ppdl.crypto.keys.keystore import default_private_dir, require_private
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.datasets.prepared.splitting import SPLITS, Split, assign_splits
from ppdl.errors import ConfigError, PpdlError
from ppdl.evaluation.predictions.predictions import Predictions, pool
from ppdl.experiment.results.predictions import border_predictions, predictions_of, scaled_logits
from ppdl.experiment.training.head_run import features_of, infer, train_head, write_backbone
from ppdl.experiment.training.network_run import train
from ppdl.experiment.training.runs import PLAIN, Run, prepared_data, runs_of
from ppdl.experiment.training.source import open_source
from ppdl.records.atomic import replacing

_NOT_RESULTS = ("branch", "crossval", "tracking", "executor", "signing", "listed")


@contextmanager
def claimed_folder(cfg: DictConfig, folder: Path) -> Iterator[None]:
    """Start a folder for this configuration, or make sure that it was started for the same, and keep others out of it.

    Raises:
        ConfigError: the folder holds results of another configuration, or another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / ".lock"), folder / ".holder"
    try:
        lock.acquire(timeout=0)  # the system gives it up when its holder dies
    except Timeout:
        who = holder.read_text() if holder.exists() else "another process"
        raise ConfigError(
            f"{folder} is in use by {who}: wait for it, or stop it and the same command goes on where it stopped; "
            "or choose another crossval.name"
        ) from None
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        _check_folder(cfg, folder)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _check_folder(cfg: DictConfig, folder: Path) -> None:
    values = {str(key): node for key, node in cfg.items() if key not in _NOT_RESULTS}
    if not (folder / "built_for.json").exists():
        write_built_for(folder, values)
        return
    if different := differing(read_built_for(folder), values):
        raise ConfigError(f"{folder} was built for other values:\n{shown(different)}\nChoose another crossval.name, or delete that folder.")


def build_once(folder: Path, last_file: str, build: Callable[[], None]) -> None:
    """Build a folder unless it is whole, which its `last_file` shows; what an interrupted run left of it is removed first."""
    if not (folder / last_file).exists():
        shutil.rmtree(folder, ignore_errors=True)
        build()


def fold_rows(prepared: Prepared, split: Split) -> dict[str, np.ndarray]:
    """Return the row numbers of train, validation and test for one fold."""
    index = prepared.index
    _, names = assign_splits(index["label"].to_numpy(), index["group"].to_numpy(), split, class_names=prepared.class_names)
    return {name: np.flatnonzero(names == name) for name in SPLITS}


def chosen_runs(cfg: DictConfig) -> list[Run]:
    """Return the runs to cross-validate: all of the configuration, or those that crossval.runs names.

    A head on the features of `plain` is none of them: a fold keeps no network.
    """
    runs = [run for run in runs_of(cfg) if not run.private or cfg.heads[run.branch].backbone.weights != PLAIN]
    if cfg.crossval.runs is None:
        return runs
    unknown = set(cfg.crossval.runs) - {run.name for run in runs}
    if unknown:
        raise ConfigError(f"crossval.runs must be among {', '.join(run.name for run in runs)}, got {', '.join(sorted(unknown))}")
    return [run for run in runs if run.name in cfg.crossval.runs]


def train_folds(cfg: DictConfig, workspace: Workspace) -> None:
    """Train every run on every fold, `crossval.num_jobs` at a time, and keep the predictions of each test fold.

    Each training has its own process with `crossval.num_threads` threads: a network of this size cannot keep two cores busy, two
    networks can.
    """
    OmegaConf.update(cfg, "training.num_threads", cfg.crossval.num_threads)
    work = [(run, k) for run in chosen_runs(cfg) for k in range(cfg.split.num_folds)]
    todo = [(run, k) for run, k in work if not predictions_path(workspace, run, k).exists()]
    if len(todo) < len(work):
        print(f"{len(work) - len(todo)} of {len(work)} trainings are done already")
    jobs = (joblib.delayed(_train_fold)(OmegaConf.to_container(cfg), workspace, run, k) for run, k in todo)
    done = joblib.Parallel(n_jobs=cfg.crossval.num_jobs, return_as="generator_unordered")(jobs)
    for result in tqdm(done, total=len(todo), desc="trainings", unit="fold", disable=not todo):
        if isinstance(result, PpdlError):
            raise result
        tqdm.write(result)


def predictions_path(workspace: Workspace, run: Run, fold: int) -> Path:
    """Return where the test predictions of one fold are kept."""
    return workspace.outputs / f"fold-{fold}" / f"{run.name}.npz"


def _train_fold(tree: dict[str, Any], workspace: Workspace, run: Run, k: int) -> str | PpdlError:
    from ppdl.training.networks.predict import predict_logits

    cfg = OmegaConf.create(tree)
    try:
        prepared = prepared_data(cfg, workspace)
        rows = fold_rows(prepared, dataclasses.replace(construct(Split, cfg.split, "split"), fold=k))
        there = dataclasses.replace(workspace, outputs=workspace.outputs / f"fold-{k}", sweep=str(workspace.outputs))
        here = dataclasses.replace(run, name=f"{run.name}-fold{k}")
        if run.private:
            return _private_fold(cfg, workspace, there, here, prepared, rows, predictions_path(workspace, run, k))
        result = train(cfg, there, here, prepared, rows, stage="stages.crossval", progress=False, keep_model=False)
        best = result.history.set_index("epoch").loc[result.best_epoch]
        line = f"{here.name}: validation accuracy {best['val_accuracy']:.4f} at epoch {result.best_epoch}, {result.seconds:.0f} s"
        if cfg.crossval.test:
            view = open_source(cfg, workspace, run, prepared, rows["train"]).view
            logits = predict_logits(result.model, view, rows["test"], cfg.training.batch_size)
            predictions_of(prepared, rows["test"], logits).save(predictions_path(workspace, run, k))
        return line
    except PpdlError as error:
        return error


def write_features(cfg: DictConfig, workspace: Workspace, name: str) -> None:
    """Write the features of all images for a head's folds, once, and the public backbone that gave them."""
    backbone, sha256 = write_backbone(cfg, workspace, name)
    prepared = prepared_data(cfg, workspace)
    folder = features_folder(workspace, name)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "features.npz") as path:
        np.savez(path, features=features_of(backbone, prepared, np.arange(len(prepared.index))), sha256=sha256)


def features_folder(workspace: Workspace, name: str) -> Path:
    """Return where the features for a head's folds are kept."""
    return workspace.outputs / "data/features" / name


def _private_fold(
    cfg: DictConfig, workspace: Workspace, there: Workspace, run: Run, prepared: Prepared, rows: dict[str, np.ndarray], path: Path
) -> str:
    """Train a head on one fold and classify its test images under encryption."""
    with np.load(features_folder(workspace, run.branch) / "features.npz", allow_pickle=False) as file:
        features, sha256 = file["features"], str(file["sha256"])
    found = train_head(cfg, there, run, prepared, rows, features, backbone_sha256=sha256, stage="stages.crossval", keep_model=False)
    if cfg.crossval.test:
        private_dir = Path(cfg.keygen.private_dir or default_private_dir())
        key = require_private(workspace.inputs / "keys/inference.json", private_dir, purpose=INFERENCE)
        answers = infer(cfg, run.branch, found.head, found.head.quantise(features[rows["test"]]), key)
        predictions_of(prepared, rows["test"], scaled_logits(answers.logits, found.head.logit_scale)).save(path)
    return f"{run.name}: validation accuracy {found.summary['val_accuracy']:.4f}"


def pooled(cfg: DictConfig, workspace: Workspace) -> dict[str, Predictions]:
    """Pool the test predictions of all folds: of each run by name, and of the border-only baseline as "border"."""
    prepared = prepared_data(cfg, workspace)
    folds = range(cfg.split.num_folds)
    split = construct(Split, cfg.split, "split")
    images = list(prepared.index["path"])
    found = {
        run.name: pool([Predictions.load(predictions_path(workspace, run, k)) for k in folds], image_ids=images) for run in chosen_runs(cfg)
    }
    border = []
    for k in folds:
        rows = fold_rows(prepared, dataclasses.replace(split, fold=k))
        border.append(border_predictions(prepared, rows))
    return found | {"border": pool(border, image_ids=images)}
