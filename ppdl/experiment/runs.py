"""From the configuration to trained models: which runs there are, what each is fed, and one way to train and track any of them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from ppdl.config import PROJECT, Workspace, build, check_built_for, checkout, construct, plain, with_values
from ppdl.crypto.artifact.shards import hash_file
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.signing import Signing
from ppdl.datasets.prepared.arrays import Prepared, load_prepared
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import ConfigError, DataError
from ppdl.evaluation.measures.baselines import border_baseline
from ppdl.evaluation.predictions.calibration import Calibration, calibrate
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.private_head.head import load_public_head
from ppdl.protections.base import Protection, View, plain_view
from ppdl.tracking.runs.record import DatasetRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ppdl.evaluation.measures.controls import Control
    from ppdl.evaluation.measures.permutation import PermutationResult
    from ppdl.evaluation.report.summary import Summary
    from ppdl.tracking import RunSpec, TrainingRun
    from ppdl.training.fitting.callbacks import OnEpoch
    from ppdl.training.fitting.pruning import MedianStopping
    from ppdl.training.fitting.result import FitResult

PLAIN = "plain"


@dataclass(frozen=True)
class Run:
    """One training: one view of one branch.

    Attributes:
        name: key in reports and name in MLflow: the branch, with the view appended unless it is the branch's first.
        branch: "plain" or a key of `protections`.
        view: what the network is fed.
        private: a head for private inference, see `ppdl.experiment.heads`; its branch is a key of `heads`.
    """

    name: str
    branch: str
    view: str
    private: bool = False

    @property
    def folder(self) -> Path:
        """Folder of the model, relative to a workspace's root."""
        return Path("models") / self.branch / ("" if self.private else self.view)


@dataclass(frozen=True)
class Source:
    """What a run was fed, beside the view itself: where it came from and what is known of its protection."""

    view: View
    path: str
    sha256: str
    confidential: bool
    key_fingerprint: str | None
    facts: dict[str, Any]
    note: str


def runs_of(cfg: DictConfig, branch: str | None = None) -> list[Run]:
    """List the runs of the configuration, or of one branch, in the order of the reports: plain first."""
    runs = [Run(PLAIN, PLAIN, "pixels")]
    for key, node in cfg.protections.items():
        if not node.views:
            raise ConfigError(f"protections.{key}.views must name at least one view, got []")
        runs += [Run(key if i == 0 else f"{key}-{view}", key, view) for i, view in enumerate(node.views)]
    runs += [Run(key, key, "features", private=True) for key in cfg.get("heads") or {}]
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
        ArtifactError: it is not signed as `signing.trusted` asks for.
    """
    if run.branch == PLAIN:
        view = plain_view(Reduced(prepared.images, cfg.input_px))
        return Source(view, "data/prepared", prepared.meta["images_sha256"], False, None, {}, "The yardstick: the trainer sees the images.")
    node = cfg.protections[run.branch]
    protection = protection_of(cfg, run.branch)
    path = f"data/{node.train_on}/{run.branch}"
    construct(Signing, cfg.signing, "signing").check(node.train_on, workspace.inputs / path)
    contents = protection.contents(workspace.inputs / path)
    steps = {step: {k: v for k, v in plain(node[step]).items() if k != "_target_"} for step in ("stem", "reveal") if step in node}
    check_built_for(
        contents.params,
        protection.params(cfg.input_px) | steps,
        what=f"{path} (protection {run.branch})",
        full_name=lambda key: _full_name(run.branch, key, steps),
    )
    if contents.num_images != len(prepared.index):
        raise ConfigError(
            f"{path} holds {contents.num_images} images and data/prepared {len(prepared.index)}: "
            "they are not of one run of the pipeline; run `dvc repro`"
        )
    view = protection.view(workspace.inputs / path, run.view, train_rows)
    sha256 = hash_file(contents.header_path)
    hides = "hides" if contents.confidential else "**does not hide**"
    note = f"What the trainer sees (`{path}`, view `{run.view}`) {hides} the images. The ciphertexts: {protection.reason}."
    return Source(view, path, sha256, contents.confidential, contents.key_fingerprint, contents.facts, note)


def protection_of(cfg: DictConfig, branch: str) -> Protection:
    """Construct the protection of a branch."""
    return build(cfg.protections[branch].scheme, f"protections.{branch}.scheme")


def _full_name(branch: str, key: str, steps: dict[str, Any]) -> str:
    """Return a parameter's place in the configuration, given its name in what the trainer reads."""
    if key == "input_px":
        return key
    return f"protections.{branch}.{key}" if key.split(".")[0] in steps else f"protections.{branch}.scheme.{key}"


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


def spec_of(
    cfg: DictConfig,
    workspace: Workspace,
    run: Run,
    prepared: Prepared,
    rows: Mapping[str, np.ndarray],
    *,
    stage: str,
    path: str,
    sha256: str,
    confidential: bool,
    key_fingerprint: str | None,
    description: str,
) -> RunSpec:
    """Return what MLflow is told of a training before it begins.

    Args:
        rows: row numbers of each split; only how many there are is used.
        path, sha256: of what is trained on.
    """
    from ppdl.tracking import RunSpec

    return RunSpec(
        name=run.name,
        stage=stage,
        config=plain(cfg),
        protection=run.branch,
        view=run.view,
        confidential=confidential,
        key_fingerprint=key_fingerprint,
        dataset=DatasetRecord(dataset_name(cfg), sha256, path, {name: len(numbers) for name, numbers in rows.items()}),
        inputs=("data/prepared/index.csv", path),
        data_sha256=prepared.sha256,
        sweep=workspace.sweep,
        job=workspace.job,
        overrides=workspace.overrides,
        description=description,
    )


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


def predict_test_set(cfg: DictConfig, workspace: Workspace, run: Run, prepared: Prepared, trained: Trained | None = None) -> Predictions:
    """Return what a trained run says about the test images.

    Args:
        trained: the run's network where it is open already.
    """
    from ppdl.training.networks.predict import fused_logits

    rows = prepared.rows("test")
    if run.private:
        return predictions_of(prepared, rows, private_logits(workspace, run, rows))
    trained = trained or open_trained(cfg, workspace, run, prepared)
    return predictions_of(prepared, rows, fused_logits(trained.fused, trained.view, rows, cfg.training.batch_size))


def private_logits(workspace: Workspace, run: Run, rows: np.ndarray) -> np.ndarray:
    """Return what private inference said of the test images `rows`: (num_rows, num_classes) float64.

    Raises:
        DataError: stage private_inference was run for other images, or not at all.
    """
    path = workspace.inputs / "data/private" / run.branch / "logits.npz"
    head = load_public_head(workspace.inputs / run.folder)
    try:
        with np.load(path, allow_pickle=False) as file:
            logits, found = file["logits"], file["rows"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}): run `dvc repro`") from None
    if not np.array_equal(found, rows) or logits.shape != (len(rows), len(head.class_names)):
        raise DataError(f"{path} holds logits {logits.shape} of other test images than data/prepared has ({len(rows)}): run `dvc repro`")
    return scaled_logits(logits, head.logit_scale)


def scaled_logits(logits: np.ndarray, scale: float) -> np.ndarray:
    """Return integer logits as numbers, 0 for the largest of each image: rounding to float32 cannot change which it is."""
    return (logits - logits.max(axis=1, keepdims=True)) * scale


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


def report(
    cfg: DictConfig,
    workspace: Workspace,
    predictions: dict[str, Predictions],
    *,
    temperatures: Mapping[str, float] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    more_figures: Mapping[str, Figure] | None = None,
) -> tuple[Summary, dict[str, Control]]:
    """Write all reports below reports/.

    Args:
        predictions: of each run by name, and of the border-only baseline as "border".
        temperatures: by run, see `ppdl.evaluation.predictions.calibration`.
        more: by run, further figures for reports/metrics.json.
        more_figures: by name, further pictures.

    Returns:
        The summary, and what is known of each run that must stay at chance.
    """
    from ppdl.evaluation.report.reports import write_reports

    runs = [run for run in runs_of(cfg) if run.name in predictions]
    controls = {
        run.name: examine_control(cfg, workspace, run, predictions[run.name])
        for run in runs
        if run.branch != PLAIN and not run.private and not protection_of(cfg, run.branch).learnable
    }
    paths = {run.name: workspace.inputs / run.folder / "history.csv" for run in runs}
    settings = cfg.evaluation
    summary = write_reports(
        workspace.outputs / "reports",
        predictions,
        margin=settings.margin,
        remarks={name: control.remark for name, control in controls.items()},
        histories={name: pd.read_csv(path) for name, path in paths.items() if path.is_file()},
        more={name: {**(more or {}).get(name, {}), **(controls[name].figures if name in controls else {})} for name in predictions},
        temperatures=temperatures,
        more_figures=more_figures,
    )
    return summary, controls


def examine_control(cfg: DictConfig, workspace: Workspace, run: Run, predictions: Predictions) -> Control:
    """Test whether a run that must stay at chance beats it, and write it down if it does."""
    from ppdl.evaluation.measures.controls import RECORD, remember

    return remember(
        run.name,
        permute_control(cfg, run.name, predictions),
        header=workspace.inputs / "data" / cfg.protections[run.branch].train_on / run.branch / "header.json",
        record=checkout(workspace.inputs) / RECORD,  # beside the artifact, also for an evaluation that writes its reports elsewhere
    )


def permute_control(cfg: DictConfig, name: str, predictions: Predictions) -> PermutationResult:
    """Test whether a run that must stay at chance beats it, whatever was found before."""
    from ppdl.evaluation.measures.permutation import permutation_test

    return permutation_test(predictions, num_permutations=cfg.evaluation.num_permutations, seed=cfg.evaluation.seed, name=name)


def log_results(cfg: DictConfig, workspace: Workspace, summary: Summary, predictions: dict[str, Predictions]) -> None:
    """Add test metrics, figures and costs to the MLflow run of each training."""
    from ppdl.evaluation.figures.plots import plot_confusion, plot_reliability, plot_roc
    from ppdl.tracking import log_test_results, open_store
    from ppdl.tracking.runs.names import numbers_and_words

    store = open_store(checkout(), cfg.tracking.experiment)
    for run in runs_of(cfg):
        result, predicted = {run.name: summary.runs[run.name]}, {run.name: predictions[run.name]}
        figures = {
            "confusion": plot_confusion({run.name: result[run.name]["confusion"]}, summary.class_names),
            "roc": plot_roc(predicted, result),
            "reliability": plot_reliability(predicted, result),
        }
        baselines = {f"{name}_accuracy": found["accuracy"] for name, found in summary.baselines.items()}
        run_json = workspace.inputs / run.folder / "run.json"
        numbers, words = numbers_and_words(summary.metrics[run.name])
        log_test_results(store, run_json, numbers | baselines, figures=figures, tags=words)
        if cost := _cost(workspace, run.branch):
            log_test_results(store, run_json, cost, section="cost")


def _cost(workspace: Workspace, branch: str) -> dict[str, float]:
    """Return what the steps of a branch cost, such as encrypt_seconds."""
    steps = sorted((workspace.inputs / "reports/cost" / branch).glob("*.json"))
    found = {f"{path.stem}_{key}": value for path in steps for key, value in json.loads(path.read_text()).items()}
    return {name: value for name, value in found.items() if "_num_" not in name and not isinstance(value, str)}  # counts are no cost


def repeat_under_second_key(cfg: DictConfig, workspace: Workspace, run: Run, prepared: Prepared) -> Predictions:
    """Encrypt, train and predict once more under a key of its own, whose private part is dropped at once.

    For protections that the trainer reads as they were encrypted. Nothing of it is kept but the MLflow run.
    """
    from ppdl.training.networks.predict import predict_logits

    folder = workspace.unfinished / "second-key" / run.branch
    shutil.rmtree(folder, ignore_errors=True)
    protection = protection_of(cfg, run.branch)
    public_key = generate_keypair(cfg.keygen.key_bits, allow_insecure_key=cfg.keygen.allow_insecure_key).public
    protection.encrypt(
        Reduced(prepared.images, protection.image_px(cfg.input_px)),
        folder / "data" / cfg.protections[run.branch].train_on / run.branch,
        input_px=cfg.input_px,
        public_key=public_key,
        partial_dir=folder / "partial",
        executor=build(cfg.executor, "executor"),
    )
    there = dataclasses.replace(workspace, inputs=folder, outputs=folder)
    cfg = with_values(cfg, {"signing": {"trusted": {cfg.protections[run.branch].train_on: []}}})  # nobody signs what is made here
    rows = {name: prepared.rows(name) for name in ("train", "validation", "test")}
    again = dataclasses.replace(run, name=f"{run.name}-second-key")
    result = train(cfg, there, again, prepared, rows, stage="stages.evaluate", keep_model=False)
    view = open_source(cfg, there, run, prepared, rows["train"]).view
    predictions = predictions_of(prepared, rows["test"], predict_logits(result.model, view, rows["test"], cfg.training.batch_size))
    shutil.rmtree(folder)
    return predictions


def dataset_name(cfg: DictConfig) -> str:
    """Return the name of the dataset's configuration, such as "phantom"."""
    return str(cfg.dataset["_target_"]).rsplit(".", 1)[-1].lower()
