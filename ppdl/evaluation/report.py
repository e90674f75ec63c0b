"""Test results as files: metrics for DVC, data for its plots, figures, and a table for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ppdl.evaluation.baselines import chance
from ppdl.evaluation.metrics import METRICS, evaluate
from ppdl.evaluation.plots import plot_accuracy, plot_confusion, plot_reliability, plot_roc
from ppdl.evaluation.predictions import Predictions
from ppdl.evaluation.statistics import compare

PLAIN = "plain"


@dataclass(frozen=True)
class Results:
    """What evaluation found.

    Attributes:
        metrics: by run what reports/metrics.json holds, and `baselines`.
        figures: by run and by name.
    """

    metrics: dict[str, dict[str, Any]]
    figures: dict[str, dict[str, Figure]]


def write_reports(
    reports_dir: Path, runs: Mapping[str, Predictions], *, border: Predictions, margin: float, num_bootstrap: int, seed: int
) -> Results:
    """Evaluate runs on the same test images and write everything below `reports_dir`.

    Writes metrics.json (numbers, a DVC metric), evaluation/classes.json (per class, confusion), evaluation/predictions/RUN.csv (actual
    and predicted, for DVC's confusion template) and .npz, evaluation/*.png, and prints a table.

    Args:
        runs: by name; each is compared with the one called "plain" if there is one.
        border: of the border-only baseline.
        margin: of non-inferiority.
        num_bootstrap: resamples behind each interval.

    Raises:
        DataError: the runs were not tested on the same images.
    """
    options = {"num_bootstrap": num_bootstrap, "seed": seed}
    evaluated = {name: evaluate(predictions, **options) for name, predictions in runs.items()}
    metrics = {name: {key: value for key, value in result.items() if key not in ("per_class", "confusion")} for name, result in evaluated.items()}
    if PLAIN in runs:
        for name in runs.keys() - {PLAIN}:
            metrics[name]["minus_plain"] = compare(runs[name], runs[PLAIN], names=(name, PLAIN), margin=margin, **options)
    border_result = evaluate(border, **options)
    class_names = border.class_names
    kept = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    metrics["baselines"] = {"chance": chance(border.labels, len(class_names)), "border": {key: border_result[key] for key in kept}}
    figures = {name: _figures(name, runs[name], evaluated[name]) for name in runs}
    overview = plot_accuracy({name: metrics[name] for name in runs}, metrics["baselines"])
    _write(reports_dir, runs, metrics, evaluated, figures, overview)
    print_table(metrics)
    return Results(metrics, figures)


def _figures(name: str, predictions: Predictions, result: Mapping[str, Any]) -> dict[str, Figure]:
    return {
        "confusion": plot_confusion(result, predictions.class_names, title=f"{name}: confusion on the test set"),
        "roc": plot_roc(predictions, title=f"{name}: each class against the rest"),
        "reliability": plot_reliability(predictions, title=f"{name}: calibration on the test set"),
    }


def _write(
    reports_dir: Path,
    runs: Mapping[str, Predictions],
    metrics: dict[str, Any],
    evaluated: dict[str, Any],
    figures: dict[str, dict[str, Figure]],
    overview: Figure,
) -> None:
    folder = reports_dir / "evaluation"
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    for name, predictions in runs.items():
        predictions.save(folder / "predictions" / f"{name}.npz")
        names = pd.Series(predictions.class_names)
        table = {"actual": names[predictions.labels].to_numpy(), "predicted": names[predictions.predicted].to_numpy()}
        pd.DataFrame(table).to_csv(folder / "predictions" / f"{name}.csv", index=False)
        for kind, figure in figures[name].items():
            figure.savefig(folder / f"{name}-{kind}.png")
    overview.savefig(folder / "accuracy.png")
    details = {name: {key: result[key] for key in ("per_class", "confusion")} for name, result in evaluated.items()}
    (folder / "classes.json").write_text(json.dumps(details, indent=1, allow_nan=False) + "\n")
    (reports_dir / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")


def print_table(metrics: Mapping[str, Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the runs beside chance and the border-only baseline, each accuracy with its 95 % interval."""
    console = console or Console(width=None if Console().is_terminal else 120)  # in a log, rather wide than cut
    table = Table(title="Test set, with 95 % intervals", caption="border: a linear probe on nothing but the images' outer ring")
    for column in ("run", "accuracy", "macro F1", "AUROC", "ECE", "minus plain, points", "within margin"):
        table.add_column(column, justify="left" if column == "run" else "right", no_wrap=True)
    baselines = metrics["baselines"]
    table.add_row("chance", _percent(baselines["chance"], "accuracy"), "", "0.500", "", "", "")
    table.add_row("border", *_cells(baselines["border"]), "", "", end_section=True)
    for name, result in metrics.items():
        if name == "baselines":
            continue
        versus = result.get("minus_plain")
        difference = "" if versus is None else f"{100 * versus['difference']:+.1f} [{100 * versus['difference_low']:+.1f}, {100 * versus['difference_high']:+.1f}]"
        verdict = "" if versus is None else ("yes" if versus["non_inferior"] else "not shown")
        table.add_row(name, *_cells(result), difference, verdict)
    console.print(table)


def _cells(result: Mapping[str, Any]) -> tuple[str, ...]:
    return _percent(result, "accuracy"), *(_number(result, name) for name in ("macro_f1", "auroc", "ece"))


def _percent(result: Mapping[str, Any], name: str) -> str:
    if f"{name}_low" not in result:
        return f"{100 * result[name]:.1f} %"
    return f"{100 * result[name]:.1f} % [{100 * result[f'{name}_low']:.1f}, {100 * result[f'{name}_high']:.1f}]"


def _number(result: Mapping[str, Any], name: str) -> str:
    return "" if result[name] is None else f"{result[name]:.3f}"
