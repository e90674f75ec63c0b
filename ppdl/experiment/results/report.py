"""The reports of all runs, their controls, and what their MLflow runs are told at the end."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import DictConfig

from ppdl.config import Workspace, build, checkout, with_values
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.experiment.results.predictions import predictions_of
from ppdl.experiment.training.network_run import train
from ppdl.experiment.training.runs import PLAIN, Run, runs_of
from ppdl.experiment.training.source import open_source, protection_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ppdl.evaluation.measures.controls import Control
    from ppdl.evaluation.measures.permutation import PermutationResult
    from ppdl.evaluation.report.summary import Summary


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
