"""Every run on the films of other hospitals, which no training has seen: reports/external.json."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ppdl.evaluation.insight.lungs import masked_rows
from ppdl.evaluation.measures.drop import accuracy_drop
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.report.content import EXTERNAL_FILE
from ppdl.evaluation.report.reports import write_json
from ppdl.evaluation.report.summary import BASELINES, BORDER, Summary, summarise
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.insight import accuracy_by_part
from ppdl.experiment.results.report import border_predictions
from ppdl.experiment.training.head_run import HeadRun
from ppdl.experiment.training.network_run import NetworkRun


def external_results(
    experiment: Experiment,
    asked: Mapping[Experiment, Mapping[str, NetworkRun | HeadRun]],
    summary: Summary,
    *,
    temperatures: Mapping[str, float],
    pictures: Collection[str],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Test every run on the films of each other hospital, and write reports/external.json.

    Args:
        asked: by set, all runs by name, see `Run.at`.
        summary: of the own test images.
        temperatures: by run, from the own validation images: no film of another hospital calibrates anything.
        pictures: the runs that are fed pictures, which the shortcut test is for.

    Returns:
        By set and run what metrics.json has of the own test images, `accuracy_drop` with its ends, and where there are lung masks the
        accuracies with and without lungs; and under "baselines" chance and border only, whose probe was trained on the own films.
    """
    found = {}
    for there, runs in asked.items():
        said = {key: run.predict() for key, run in runs.items()}
        border = border_predictions(experiment, there)
        summed = summarise(said | {BORDER: border}, margin=experiment.cfg.evaluation.margin, temperatures=temperatures)
        metrics = summed.metrics
        for key in runs:
            metrics[key] = metrics[key] | accuracy_drop(summary.runs[key], summed.runs[key])
        metrics[BASELINES][BORDER] |= accuracy_drop(summary.baselines[BORDER], summed.baselines[BORDER])
        networks = {key: run for key, run in runs.items() if isinstance(run, NetworkRun) and key in pictures}
        for key, parts in _by_part(there, networks, said).items():
            metrics[key] |= parts
        found[str(there.external)] = metrics
    write_json(experiment.workspace.outputs / "reports" / EXTERNAL_FILE, found)
    return found


def _by_part(there: Experiment, runs: Mapping[str, NetworkRun], said: Mapping[str, Predictions]) -> dict[str, dict[str, Any]]:
    """Return the accuracies with and without lungs of the runs that are fed pictures, where there are masks."""
    masks = there.prepared.masks
    if masks is None:
        return {}
    rows = masked_rows(masks, there.prepared.rows("test"))
    if there.prepared.index["group"].iloc[rows].nunique() < 2:
        return {}
    return {key: accuracy_by_part(run, masks, rows, said[key]) for key, run in runs.items()}
