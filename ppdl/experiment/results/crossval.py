"""Cross-validate plain and every protection on the same folds: train side by side, pool the test predictions.

Results are kept fold by fold, so that an interrupted run continues with the trainings that are missing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from tqdm import tqdm

from ppdl.config import Workspace, construct, differing, plain, read_built_for, shown, with_values, write_built_for
from ppdl.crypto.keys.keystore import require_private
from ppdl.crypto.keys.purpose import INFERENCE, PUBLIC_PATHS
from ppdl.datasets.prepared.splitting import Split, assign_splits
from ppdl.errors import ConfigError, PpdlError
from ppdl.evaluation.predictions.predictions import Predictions, pool
from ppdl.evaluation.predictions.seeds import pool_seeds
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.report import border_predictions
from ppdl.experiment.training.frozen_run import FrozenRun, frozen_runs, validated
from ppdl.experiment.training.head_run import Features, HeadRun, head_runs
from ppdl.experiment.training.network_run import NetworkRun, network_runs
from ppdl.experiment.training.run import PLAIN, Run
from ppdl.records.atomic import replacing

_NOT_RESULTS = ("branch", "crossval", "tracking", "executor", "signing", "listed", "listed_external")
_KINDS = ("input_px", "kind", "flips")  # of a candidate


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
    if evaluation := plain(values.get("evaluation")):
        values["evaluation"] = {key: node for key, node in evaluation.items() if key != "external"}  # not tested here
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


def seed_of(seed: int, fold: int, number: int) -> int:
    """Return the seed of a training: of number 0 the configuration's for all folds, of further ones one that no other training has."""
    return seed if number == 0 else int(np.random.SeedSequence((seed, number, fold)).generate_state(1)[0])


def num_seeds(run: Run) -> int:
    """Return how many seeds a run is trained with: a training that draws nothing has one."""
    return run.experiment.cfg.crossval.seeds if run.draws else 1


def fold_folder(folder: Path, fold: int, number: int = 0) -> Path:
    """Return the folder of one fold and the number of one seed, below that of a cross-validation."""
    folder = folder / f"fold-{fold}"
    return folder / f"seed-{number}" if number else folder


def fold_of(experiment: Experiment, k: int, number: int = 0) -> Experiment:
    """Return one fold of an experiment, with one of its seeds: the same images, split anew, with a folder of its own for what is
    written."""
    prepared, workspace = experiment.prepared, experiment.workspace
    split = dataclasses.replace(construct(Split, experiment.cfg.split, "split"), fold=k)
    index = prepared.index
    _, names = assign_splits(index["label"].to_numpy(), index["group"].to_numpy(), split, class_names=prepared.class_names)
    there = dataclasses.replace(workspace, outputs=fold_folder(workspace.outputs, k, number), sweep=str(workspace.outputs))
    cfg = with_values(experiment.cfg, {"seed": seed_of(experiment.cfg.seed, k, number)}) if number else experiment.cfg
    return Experiment(cfg, there, dataclasses.replace(prepared, index=index.assign(split=names)))


def chosen_runs(experiment: Experiment) -> list[NetworkRun | HeadRun | FrozenRun]:
    """Return the runs to cross-validate: all of the configuration, or those that crossval.runs names.

    A head on the features of `plain` is none of them: a fold keeps no network. Nor are heads and networks of several hospitals: folds
    would open totals that overlap.
    """
    heads = [run for run in head_runs(experiment) if run.is_fitted and run.node.backbone.weights != PLAIN]
    runs: list[NetworkRun | HeadRun | FrozenRun] = [*network_runs(experiment), *heads, *frozen_runs(experiment)]
    wanted = experiment.cfg.crossval.runs
    if wanted is None:
        return runs
    unknown = set(wanted) - {run.name for run in runs}
    if unknown:
        raise ConfigError(f"crossval.runs must be among {', '.join(run.name for run in runs)}, got {', '.join(sorted(unknown))}")
    return [run for run in runs if run.name in wanted]


def train_folds(experiment: Experiment) -> None:
    """Train every run on every fold with every seed, `crossval.num_jobs` at a time, and keep the predictions of each test fold.

    Each training has its own process with `crossval.num_threads` threads: a network of this size cannot keep two cores busy, two
    networks can. All folds of a seed come before the next seed.
    """
    cfg = with_values(experiment.cfg, {"training": {"num_threads": experiment.cfg.crossval.num_threads}})
    folds, numbers = range(cfg.split.num_folds), range(cfg.crossval.seeds)
    work = [(run, k, number) for number in numbers for run in chosen_runs(experiment) if number < num_seeds(run) for k in folds]
    written = predictions_path if cfg.crossval.test else record_path
    todo = [(run.name, k, number) for run, k, number in work if not written(run, k, number).exists()]
    if len(todo) < len(work):
        print(f"{len(work) - len(todo)} of {len(work)} trainings are done already")
    jobs = (joblib.delayed(_train_fold)(OmegaConf.to_container(cfg), experiment.workspace, *one) for one in todo)
    done = joblib.Parallel(n_jobs=cfg.crossval.num_jobs, return_as="generator_unordered")(jobs)
    for result in tqdm(done, total=len(todo), desc="trainings", unit="fold", disable=not todo):
        if isinstance(result, PpdlError):
            raise result
        tqdm.write(result)


def predictions_path(run: Run, fold: int, number: int = 0) -> Path:
    """Return where the test predictions of one fold are kept, of one seed."""
    return fold_folder(run.experiment.workspace.outputs, fold, number) / f"{run.name}.npz"


def record_path(run: Run, fold: int, number: int = 0) -> Path:
    """Return where it is kept what a training showed on validation films, and its core seconds."""
    return predictions_path(run, fold, number).with_suffix(".json")


def _train_fold(tree: dict[str, Any], workspace: Workspace, name: str, k: int, number: int) -> str | PpdlError:
    """Train a run on one fold with one seed and keep its predictions; return what to say of it."""
    try:
        start = time.process_time()
        run = next(run for run in chosen_runs(Experiment(OmegaConf.create(tree), workspace)) if run.name == name)
        title = f"{name}-fold{k}" + f"-seed{number}" * bool(number)
        here = dataclasses.replace(run, experiment=fold_of(run.experiment, k, number), name=name if isinstance(run, FrozenRun) else title)
        path = predictions_path(run, k, number)
        if isinstance(here, FrozenRun):
            candidates = _frozen_fold(here, path)
        else:
            candidates = _head_fold(here, path) if isinstance(here, HeadRun) else _network_fold(here, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(record_path(run, k, number)) as unfinished:
            unfinished.write_text(json.dumps({"candidates": candidates, "core_seconds": time.process_time() - start}, indent=1) + "\n")
        best = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in candidates[0].items()}
        return (
            f"{title}: validation accuracy {best['val_accuracy']}, {', '.join(f'{key} {best[key]}' for key in best if key[:4] != 'val_')}"
        )
    except PpdlError as error:
        return error


def _network_fold(run: NetworkRun, path: Path) -> list[dict[str, Any]]:
    result = run.train(stage="stages.crossval", progress=False, keep_model=False)
    cfg, prepared = run.experiment.cfg, run.experiment.prepared
    if cfg.crossval.test:
        run.predict(result.network, flips=cfg.flips).save(path)
    rows, facts = prepared.rows("validation"), {"epoch": result.best_epoch}
    labels, found = prepared.index["label"].to_numpy()[rows], []
    for flips in dict.fromkeys((cfg.flips, False, True)):
        figures, _ = validated(labels, run.logits(result.network, rows, flips=flips))
        found.append({"input_px": run.input_px, "flips": flips} | facts | figures)
    return found


def _head_fold(run: HeadRun, path: Path) -> list[dict[str, Any]]:
    """Train a head and classify the test images of its fold under encryption."""
    experiment = run.experiment
    with np.load(features_folder(experiment.workspace.inputs, run.branch) / "features.npz", allow_pickle=False) as file:
        features = Features(file["features"], str(file["sha256"]))
    fitted = run.train(features, stage="stages.crossval", keep_model=False)
    if experiment.cfg.crossval.test:
        key = require_private(experiment.workspace.inputs / PUBLIC_PATHS[INFERENCE], experiment.cfg.keygen.private_dir, purpose=INFERENCE)
        answers = run.infer(fitted.head, fitted.head.quantise(features.array[experiment.prepared.rows("test")]), key)
        run.predictions(answers.logits, fitted.head.logit_scale).save(path)
    return [{"input_px": run.input_px} | {key: fitted.summary[key] for key in ("strength", "val_accuracy", "val_log_loss")}]


def _frozen_fold(run: FrozenRun, path: Path) -> list[dict[str, Any]]:
    folder = run.experiment.workspace.inputs
    features = {}
    for px in run.head.input_px:
        with np.load(features_folder(folder, f"{run.name}-{px}px") / "features.npz", allow_pickle=False) as file:
            features[px] = file["features"]
    chosen = run.train(features, stage="stages.crossval")
    if run.experiment.cfg.crossval.test:
        chosen.predictions.save(path)
    return chosen.candidates


def validation(experiment: Experiment) -> list[dict[str, Any]]:
    """Return what validation films said, lowest log loss first: means over folds and seeds, as far as trainings were recorded.

    A row for each run, size, kind of head and use of flips, with the strength that was best in each training; `chosen` of `num_trainings`
    took it. `core_minutes` are those of all trainings of the run.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run in chosen_runs(experiment):
        paths = [record_path(run, k, number) for number in range(num_seeds(run)) for k in range(experiment.cfg.split.num_folds)]
        records = [json.loads(path.read_text()) for path in paths if path.exists()]
        facts = {"num_trainings": len(records), "core_minutes": sum(record["core_seconds"] for record in records) / 60}
        for record in records:
            best = {tuple(one.get(key) for key in _KINDS): one for one in reversed(record["candidates"])}  # of each kind the first
            for kind, one in best.items():
                empty = {"run": run.name, "chosen": 0, "found": []} | dict(zip(_KINDS, kind, strict=True)) | facts
                row = rows.setdefault((run.name, *kind), empty)
                row["chosen"] += one is record["candidates"][0]
                row["found"].append((one["val_accuracy"], one["val_log_loss"]))
    for row in rows.values():
        row["val_accuracy"], row["val_log_loss"] = map(float, np.mean(row.pop("found"), axis=0))
    return sorted(rows.values(), key=lambda row: row["val_log_loss"])


def write_features(run: HeadRun) -> None:
    """Write the features of all images for a head's folds, once, and the public backbone that gave them."""
    features = run.write_features(np.arange(len(run.experiment.prepared.index)))
    _save_features(run, run.branch, features=features.array, sha256=features.backbone_sha256)


def write_frozen_features(run: FrozenRun, px: int) -> None:
    """Write the features of all images and their mirror images for the folds of a head on a frozen network, once."""
    _save_features(run, f"{run.name}-{px}px", features=run.features(px))


def _save_features(run: Run, name: str, **arrays: Any) -> None:
    folder = features_folder(run.experiment.workspace.outputs, name)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "features.npz") as path:
        np.savez(path, **arrays)


def features_folder(root: Path, name: str) -> Path:
    """Return where the features for a head's folds are kept."""
    return root / "data/features" / name


def pooled(experiment: Experiment) -> dict[str, Predictions]:
    """Pool the test predictions of all folds and seeds: of each run by name, and of the border-only baseline as "border"."""
    images = list(experiment.prepared.index["path"])
    found = {run.name: pooled_run(run, images) for run in chosen_runs(experiment)}
    borders = [border_predictions(fold_of(experiment, k)) for k in range(experiment.cfg.split.num_folds)]
    return found | {"border": pool(borders, image_ids=images)}


def pooled_run(run: Run, images: list[str]) -> Predictions:
    """Pool the test predictions of one run over folds and seeds, in the order of `images`."""
    return read_pooled(run.experiment.workspace.outputs, run.name, run.experiment.cfg.split.num_folds, num_seeds(run), images)


def read_pooled(folder: Path, name: str, num_folds: int, num_seeds: int, images: Iterable[str]) -> Predictions:
    """Pool the test predictions that a cross-validation left in a folder, of one run, in the order of `images`."""
    numbers, folds = range(num_seeds), range(num_folds)
    seeds = [[Predictions.load(fold_folder(folder, k, number) / f"{name}.npz") for k in folds] for number in numbers]
    return pool_seeds(seeds, image_ids=images)


def kept_seeds(folder: Path, name: str) -> int:
    """Return of how many seeds a cross-validation left predictions of a run in a folder."""
    return 1 + len(list(folder.glob(f"fold-0/seed-*/{name}.npz")))
