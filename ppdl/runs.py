"""From the configuration to trained models: which runs there are, what each is fed, and one way to train and track any of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from ppdl.config import PROJECT, Workspace, build, check_built_for, checkout, plain
from ppdl.crypto.artifact import open_artifact
from ppdl.datasets.prepared import Prepared, load_prepared
from ppdl.datasets.reduced import Reduced
from ppdl.errors import ConfigError
from ppdl.evaluation.baselines import border_baseline
from ppdl.evaluation.predictions import Predictions
from ppdl.protections.base import View, plain_view
from ppdl.tracking.record import DatasetRecord

if TYPE_CHECKING:
    from ppdl.evaluation.report import Results
    from ppdl.tracking import TrainingRun
    from ppdl.training.fit import FitResult

PLAIN = "plain"


@dataclass(frozen=True)
class Run:
    """One training: one view of one branch.

    Attributes:
        name: key in reports and name in MLflow: the branch, with the view appended unless it is the branch's first.
        branch: "plain" or a key of `protections`.
        view: what the network is fed.
    """

    name: str
    branch: str
    view: str

    @property
    def folder(self) -> Path:
        """Folder of the model, relative to a workspace's root."""
        return Path("models") / self.branch / self.view


@dataclass(frozen=True)
class Source:
    """What a run was fed, beside the view itself: where it came from and what is known of its protection."""

    view: View
    path: str
    sha256: str
    confidential: bool
    key_fingerprint: str | None
    facts: dict[str, Any]


def runs_of(cfg: DictConfig, branch: str | None = None) -> list[Run]:
    """List the runs of the configuration, or of one branch, in the order of the reports: plain first."""
    runs = [Run(PLAIN, PLAIN, "pixels")]
    for key, node in cfg.protections.items():
        if not node.views:
            raise ConfigError(f"protections.{key}.views must name at least one view, got []")
        runs += [Run(key if i == 0 else f"{key}-{view}", key, view) for i, view in enumerate(node.views)]
    return [run for run in runs if branch in (None, run.branch)]


def prepared_data(cfg: DictConfig, workspace: Workspace) -> Prepared:
    """Load the prepared images and make sure that they were built for this configuration."""
    path = workspace.inputs / "data/prepared"
    prepared = load_prepared(path)
    wanted = {key: cfg[key] for key in ("dataset", "split", "prepared_px")}
    check_built_for(prepared.meta["params"], wanted, what=str(path))
    return prepared


def open_source(cfg: DictConfig, workspace: Workspace, run: Run, prepared: Prepared, train_rows: np.ndarray) -> Source:
    """Return what `run` is fed.

    Args:
        train_rows: rows that a view may learn from, never those of the test split.

    Raises:
        ConfigError: the artifact was built for other values than the configuration asks for.
    """
    if run.branch == PLAIN:
        view = plain_view(Reduced(prepared.images, cfg.input_px))
        return Source(view, "data/prepared", prepared.meta["images_sha256"], False, None, {})
    node = cfg.protections[run.branch]
    protection = build(node.scheme, f"protections.{run.branch}.scheme")
    path = f"data/{node.train_on}/{run.branch}"
    artifact = open_artifact(workspace.inputs / path)
    header = artifact.header
    check_built_for(header.protection.params, protection.params(cfg.input_px), what=f"{path} (protection {run.branch})")
    if header.source.num_images != len(prepared.index):
        raise ConfigError(
            f"{path} holds {header.source.num_images} images and data/prepared {len(prepared.index)}: "
            "they are not of one run of the pipeline; run `dvc repro`"
        )
    view = protection.view(workspace.inputs / path, run.view, train_rows)
    facts = {
        "num_ciphertexts": header.num_ciphertexts,
        "key_bits": header.key.key_bits,
        "artifact_bytes": header.total_bytes,
        "expansion_factor": header.total_bytes / (header.source.num_images * header.source.height * header.source.width),
    }
    sha256 = hashlib.sha256((workspace.inputs / path / "header.json").read_bytes()).hexdigest()
    return Source(view, path, sha256, header.confidential, header.key.fingerprint, facts)


def train_branch(cfg: DictConfig, workspace: Workspace, branch: str, *, stage: str) -> None:
    """Train every view of one branch and track each as one MLflow run."""
    prepared = prepared_data(cfg, workspace)
    rows = {name: prepared.rows(name) for name in ("train", "validation", "test")}
    for run in runs_of(cfg, branch):
        train(cfg, workspace, run, prepared, rows, stage=stage)


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
    from ppdl.evaluation.history import plot_history
    from ppdl.tracking import RunSpec, start_training_run
    from ppdl.training.fit import fit

    model, training = build(cfg.model, "model"), build(cfg.training, "training")
    source = open_source(cfg, workspace, run, prepared, rows["train"])
    num_images = {name: len(numbers) for name, numbers in rows.items()}
    spec = RunSpec(
        name=run.name,
        stage=stage,
        config=plain(cfg),
        protection=run.branch,
        view=run.view,
        confidential=source.confidential,
        key_fingerprint=source.key_fingerprint,
        dataset=DatasetRecord(dataset_name(cfg), source.sha256, source.path, num_images),
        inputs=("data/prepared/index.csv", source.path),
        sweep=workspace.sweep,
        overrides=workspace.overrides,
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
            state_dir=state_dir(workspace, run),
            on_epoch=tracked.log_epoch,
            progress=progress,
        )
        tracked.log_history(result.history)
        tracked.log_summary(result.summary | source.facts)
        tracked.log_figure("history", plot_history(result.history, title=run.name, best_epoch=result.best_epoch))
        if keep_model:
            _keep(workspace.outputs / run.folder, result, source, prepared, tracked)
    return result


def _keep(folder: Path, result: FitResult, source: Source, prepared: Prepared, tracked: TrainingRun) -> None:
    from ppdl.training.predict import save_model

    folder.mkdir(parents=True, exist_ok=True)
    save_model(result.model, folder / "model.keras")
    result.history.to_csv(folder / "history.csv", index=False)
    tracked.log_model(
        folder / "model.keras",
        result.model,
        num_symbols=256 if source.view.table is None else len(source.view.table),
        step=result.best_epoch,
        class_names=prepared.class_names,
    )
    tracked.write_record(folder / "run.json")


def test_predictions(cfg: DictConfig, workspace: Workspace, run: Run, prepared: Prepared) -> Predictions:
    """Return what a trained run says about the test images."""
    from ppdl.training.predict import load_model, predict_logits

    rows = prepared.rows("test")
    source = open_source(cfg, workspace, run, prepared, prepared.rows("train"))
    model = load_model(workspace.inputs / run.folder / "model.keras")
    return predictions_of(prepared, rows, predict_logits(model, source.view, rows, cfg.training.batch_size))


def border_predictions(prepared: Prepared, rows: dict[str, np.ndarray] | None = None) -> Predictions:
    """Return what a linear probe on nothing but the outer ring of the images says about the test images."""
    rows = rows or {name: prepared.rows(name) for name in ("train", "test")}
    logits = border_baseline(prepared.images, prepared.index["label"].to_numpy(), rows["train"], rows["test"])
    return predictions_of(prepared, rows["test"], logits)


def predictions_of(prepared: Prepared, rows: np.ndarray, logits: np.ndarray) -> Predictions:
    """Put logits beside what is known of the images of `rows`."""
    index = prepared.index.iloc[rows]
    return Predictions(
        labels=index["label"].to_numpy(),
        logits=logits,
        groups=index["group"].to_numpy(),
        image_ids=index["path"].to_numpy(),
        class_names=prepared.class_names,
    )


def log_results(cfg: DictConfig, workspace: Workspace, results: Results) -> None:
    """Add the test results to the MLflow run of each training."""
    from ppdl.tracking import log_test_results, open_store

    store = open_store(checkout(), cfg.tracking.experiment)
    for run in runs_of(cfg):
        metrics = {key: value for key, value in results.metrics[run.name].items() if key != "minus_plain"}
        versus = results.metrics[run.name].get("minus_plain", {})
        metrics["minus_plain"] = {key: value for key, value in versus.items() if key != "text"}
        metrics["baselines"] = results.metrics["baselines"]
        log_test_results(store, workspace.inputs / run.folder / "run.json", metrics, figures=results.figures[run.name])


def dataset_name(cfg: DictConfig) -> str:
    """Return the name of the dataset's configuration, such as "phantom"."""
    return str(cfg.dataset["_target_"]).rsplit(".", 1)[-1].lower()


def state_dir(workspace: Workspace, run: Run) -> Path:
    """Return where an interrupted training is kept: below the checkout, one folder for each place that it writes to."""
    place = json.dumps([str(workspace.outputs), run.name])
    return workspace.state / "training" / f"{run.name}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
