"""The reports of all runs, and their controls."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from ppdl.config import build, checkout, with_values
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.evaluation.measures.baselines import border_baseline
from ppdl.evaluation.predictions.predictions import Predictions, predictions_of
from ppdl.evaluation.predictions.seeds import seeds_of
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.runs import runs_of
from ppdl.experiment.training.network_run import NetworkRun
from ppdl.experiment.training.run import Run
from ppdl.experiment.training.source import protection_of
from ppdl.protections.branch import Branch
from ppdl.protections.context import Context

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ppdl.evaluation.measures.controls import Control
    from ppdl.evaluation.measures.permutation import PermutationResult
    from ppdl.evaluation.report.summary import Summary, Yardsticks


def report(
    experiment: Experiment,
    predictions: dict[str, Predictions],
    *,
    temperatures: Mapping[str, float] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    more_figures: Mapping[str, Figure] | None = None,
    yardsticks: Yardsticks | None = None,
) -> tuple[Summary, dict[str, Control]]:
    """Write all reports below reports/.

    Args:
        predictions: of each run by name, and of the border-only baseline as "border".
        temperatures: by run, see `ppdl.evaluation.predictions.calibration`.
        more: by run, further figures for reports/metrics.json.
        more_figures: by name, further pictures.
        yardsticks: plain runs to compare with, of which there are predictions; None: `plain`.

    Returns:
        The summary, and what is known of each run that must stay at chance.
    """
    from ppdl.evaluation.report.reports import write_reports

    runs = [run for run in runs_of(experiment) if run.name in predictions]
    controls = {run.name: examine_control(run, predictions[run.name]) for run in runs if run.is_control}
    paths = {run.name: run.trained / "history.csv" for run in runs}
    summary = write_reports(
        experiment.workspace.outputs / "reports",
        predictions,
        margin=experiment.cfg.evaluation.margin,
        branches={run.name: run.branch for run in runs},
        remarks={name: control.remark for name, control in controls.items()},
        histories={name: pd.read_csv(path) for name, path in paths.items() if path.is_file()},
        more={name: {**(more or {}).get(name, {}), **(controls[name].figures if name in controls else {})} for name in predictions},
        temperatures=temperatures,
        more_figures=more_figures,
        yardsticks=yardsticks,
    )
    return summary, controls


def border_predictions(experiment: Experiment, there: Experiment | None = None) -> Predictions:
    """Return what a linear probe on nothing but the outer ring of the images says about the test images, or about those of `there`."""
    prepared, tested = experiment.prepared, (there or experiment).prepared
    rows, labels = tested.rows("test"), prepared.index["label"].to_numpy()
    logits = border_baseline(prepared.images, labels, prepared.rows("train"), rows, tested=tested.images)
    return predictions_of(tested, rows, logits)


def examine_control(run: Run, predictions: Predictions) -> Control:
    """Test whether a run that must stay at chance beats it, and write it down if it does."""
    from ppdl.evaluation.measures.controls import RECORD, remember

    inputs = run.experiment.workspace.inputs
    return remember(
        run.name,
        permute_control(run, predictions),
        header=inputs / "data" / run.experiment.cfg.protections[run.branch].train_on / run.branch / "header.json",
        record=checkout(inputs) / RECORD,  # beside the artifact, also for an evaluation that writes its reports elsewhere
    )


def permute_control(run: Run, predictions: Predictions) -> PermutationResult:
    """Test whether a run that must stay at chance beats it, whatever was found before.

    Of several seeds return what was found of the least p-value, times their number (Bonferroni): bad luck fails the control once in 10,000.
    """
    from ppdl.evaluation.measures.permutation import permutation_test

    cfg = run.experiment.cfg
    settings = {"num_permutations": cfg.evaluation.num_permutations, "seed": cfg.seed, "name": run.name}
    found = [permutation_test(one, **settings) for one in seeds_of(predictions)]
    worst, times = min(found, key=lambda one: one.p_value), len(found)
    if times == 1:
        return worst
    return dataclasses.replace(worst, p_value=min(1.0, times * worst.p_value), best_p=min(1.0, times * worst.best_p))


def repeat_under_second_key(run: NetworkRun) -> Predictions:
    """Encrypt, train and predict once more under a key of its own, whose private part is dropped at once.

    For protections that the trainer reads as they were encrypted. Nothing of it is kept but the MLflow run.
    """
    cfg, workspace, prepared = run.experiment.cfg, run.experiment.workspace, run.experiment.prepared
    folder = workspace.unfinished / "second-key" / run.branch
    shutil.rmtree(folder, ignore_errors=True)
    train_on = cfg.protections[run.branch].train_on
    key = generate_keypair(cfg.keygen.key_bits, allow_insecure_key=cfg.keygen.allow_insecure_key).public
    context = Context(key, cfg.input_px, folder / "partial", build(cfg.executor, "executor"))
    Branch(protection_of(cfg, run.branch)).encrypt(prepared.images, folder / "data" / train_on / run.branch, context)
    cfg = with_values(cfg, {"signing": {"trusted": {train_on: []}}})  # nobody signs what is made here
    there = Experiment(cfg, dataclasses.replace(workspace, inputs=folder, outputs=folder), prepared)
    again = dataclasses.replace(run, experiment=there, name=f"{run.name}-second-key")
    predictions = again.predict(again.train(stage="stages.evaluate", keep_model=False).network)
    shutil.rmtree(folder)
    return predictions
