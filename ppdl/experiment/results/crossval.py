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
from omegaconf import OmegaConf
from tqdm import tqdm

from ppdl.config import Workspace, construct, differing, read_built_for, shown, with_values, write_built_for
from ppdl.crypto.keys.keystore import require_private
from ppdl.crypto.keys.purpose import INFERENCE, PUBLIC_PATHS
from ppdl.datasets.prepared.splitting import Split, assign_splits
from ppdl.errors import ConfigError, PpdlError
from ppdl.evaluation.predictions.predictions import Predictions, pool
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.report import border_predictions
from ppdl.experiment.runs import runs_of
from ppdl.experiment.training.head_run import Features, HeadRun
from ppdl.experiment.training.network_run import NetworkRun
from ppdl.experiment.training.run import PLAIN, Run
from ppdl.records.atomic import replacing

_NOT_RESULTS = ("branch", "crossval", "tracking", "executor", "signing", "listed")


@contextmanager
def claimed_folder(experiment: Experiment) -> Iterator[None]:
    """Start the folder of outputs for this configuration, or make sure that it was started for the same, and keep others out of it.

    Raises:
        ConfigError: the folder holds results of another configuration, or another process works there.
    """
    folder = experiment.workspace.outputs
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
        _check_folder(experiment, folder)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _check_folder(experiment: Experiment, folder: Path) -> None:
    values = {str(key): node for key, node in experiment.cfg.items() if key not in _NOT_RESULTS}
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


def fold_of(experiment: Experiment, k: int) -> Experiment:
    """Return one fold of an experiment: the same images, split anew, with a folder of its own for what is written."""
    prepared, workspace = experiment.prepared, experiment.workspace
    split = dataclasses.replace(construct(Split, experiment.cfg.split, "split"), fold=k)
    index = prepared.index
    _, names = assign_splits(index["label"].to_numpy(), index["group"].to_numpy(), split, class_names=prepared.class_names)
    there = dataclasses.replace(workspace, outputs=workspace.outputs / f"fold-{k}", sweep=str(workspace.outputs))
    return Experiment(experiment.cfg, there, dataclasses.replace(prepared, index=index.assign(split=names)))


def chosen_runs(experiment: Experiment) -> list[NetworkRun | HeadRun]:
    """Return the runs to cross-validate: all of the configuration, or those that crossval.runs names.

    A head on the features of `plain` is none of them: a fold keeps no network. Nor is a head of several hospitals: folds would open
    totals that overlap.
    """
    runs = [run for run in runs_of(experiment) if not isinstance(run, HeadRun) or (run.is_fitted and run.node.backbone.weights != PLAIN)]
    wanted = experiment.cfg.crossval.runs
    if wanted is None:
        return runs
    unknown = set(wanted) - {run.name for run in runs}
    if unknown:
        raise ConfigError(f"crossval.runs must be among {', '.join(run.name for run in runs)}, got {', '.join(sorted(unknown))}")
    return [run for run in runs if run.name in wanted]


def train_folds(experiment: Experiment) -> None:
    """Train every run on every fold, `crossval.num_jobs` at a time, and keep the predictions of each test fold.

    Each training has its own process with `crossval.num_threads` threads: a network of this size cannot keep two cores busy, two
    networks can.
    """
    cfg = with_values(experiment.cfg, {"training": {"num_threads": experiment.cfg.crossval.num_threads}})
    work = [(run, k) for run in chosen_runs(experiment) for k in range(cfg.split.num_folds)]
    todo = [(run.name, k) for run, k in work if not predictions_path(run, k).exists()]
    if len(todo) < len(work):
        print(f"{len(work) - len(todo)} of {len(work)} trainings are done already")
    jobs = (joblib.delayed(_train_fold)(OmegaConf.to_container(cfg), experiment.workspace, name, k) for name, k in todo)
    done = joblib.Parallel(n_jobs=cfg.crossval.num_jobs, return_as="generator_unordered")(jobs)
    for result in tqdm(done, total=len(todo), desc="trainings", unit="fold", disable=not todo):
        if isinstance(result, PpdlError):
            raise result
        tqdm.write(result)


def predictions_path(run: Run, fold: int) -> Path:
    """Return where the test predictions of one fold are kept."""
    return run.experiment.workspace.outputs / f"fold-{fold}" / f"{run.name}.npz"


def _train_fold(tree: dict[str, Any], workspace: Workspace, name: str, k: int) -> str | PpdlError:
    """Train a run on one fold and keep its predictions; return what to say of it."""
    try:
        run = next(run for run in chosen_runs(Experiment(OmegaConf.create(tree), workspace)) if run.name == name)
        here = dataclasses.replace(run, experiment=fold_of(run.experiment, k), name=f"{name}-fold{k}")
        path = predictions_path(run, k)
        return _head_fold(here, path) if isinstance(here, HeadRun) else _network_fold(here, path)
    except PpdlError as error:
        return error


def _network_fold(run: NetworkRun, path: Path) -> str:
    result = run.train(stage="stages.crossval", progress=False, keep_model=False)
    if run.experiment.cfg.crossval.test:
        run.predict(result.network).save(path)
    best = result.history.set_index("epoch").loc[result.best_epoch]
    return f"{run.name}: validation accuracy {best['val_accuracy']:.4f} at epoch {result.best_epoch}, {result.seconds:.0f} s"


def _head_fold(run: HeadRun, path: Path) -> str:
    """Train a head and classify the test images of its fold under encryption."""
    experiment = run.experiment
    with np.load(features_folder(experiment.workspace.inputs, run.branch) / "features.npz", allow_pickle=False) as file:
        features = Features(file["features"], str(file["sha256"]))
    fitted = run.train(features, stage="stages.crossval", keep_model=False)
    if experiment.cfg.crossval.test:
        key = require_private(experiment.workspace.inputs / PUBLIC_PATHS[INFERENCE], experiment.cfg.keygen.private_dir, purpose=INFERENCE)
        answers = run.infer(fitted.head, fitted.head.quantise(features.array[experiment.prepared.rows("test")]), key)
        run.predictions(answers.logits, fitted.head.logit_scale).save(path)
    return f"{run.name}: validation accuracy {fitted.summary['val_accuracy']:.4f}"


def write_features(run: HeadRun) -> None:
    """Write the features of all images for a head's folds, once, and the public backbone that gave them."""
    features = run.write_features(np.arange(len(run.experiment.prepared.index)))
    folder = features_folder(run.experiment.workspace.outputs, run.branch)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "features.npz") as path:
        np.savez(path, features=features.array, sha256=features.backbone_sha256)


def features_folder(root: Path, name: str) -> Path:
    """Return where the features for a head's folds are kept."""
    return root / "data/features" / name


def pooled(experiment: Experiment) -> dict[str, Predictions]:
    """Pool the test predictions of all folds: of each run by name, and of the border-only baseline as "border"."""
    folds, images = range(experiment.cfg.split.num_folds), list(experiment.prepared.index["path"])
    found = {
        run.name: pool([Predictions.load(predictions_path(run, k)) for k in folds], image_ids=images) for run in chosen_runs(experiment)
    }
    return found | {"border": pool([border_predictions(fold_of(experiment, k)) for k in folds], image_ids=images)}
