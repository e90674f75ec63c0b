"""Write what was measured: a DVC metric, details, a Markdown table, data for DVC's plots, and figures."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ppdl.errors import DataError
from ppdl.evaluation.figures import plots
from ppdl.evaluation.figures.forest import plot_accuracy
from ppdl.evaluation.figures.history import plot_histories
from ppdl.evaluation.measures.curves import reliability_table, roc_table
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.report.summary import BORDER, Summary, Yardsticks, summarise
from ppdl.evaluation.report.tables import markdown

HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
DPI = 150
PICTURE_DPI = 110  # X-rays compress badly, and the HTML report holds them


def write_reports(
    out_dir: Path,
    runs: Mapping[str, Predictions],
    *,
    margin: float,
    reference: str = "plain",
    branches: Mapping[str, str] | None = None,
    remarks: Mapping[str, str] | None = None,
    histories: Mapping[str, pd.DataFrame] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    temperatures: Mapping[str, float] | None = None,
    more_figures: Mapping[str, Figure] | None = None,
    yardsticks: Yardsticks | None = None,
) -> Summary:
    """Evaluate every run, compare it with the reference, write all reports. `results_table` shows the returned summary.

    Written below `out_dir`:

        metrics.json                  {run: {accuracy, accuracy_low, accuracy_high, macro_f1, ...}, baselines: {chance, border}}
        evaluation/details.json       figures by class, confusion matrices, comparisons in words, the branch of each run
        evaluation/results.md         the table
        evaluation/predictions/RUN.csv    actual, predicted: for DVC's confusion template
        evaluation/roc.csv            run, false_positive_rate, true_positive_rate (mean of the classes), one column a class
        evaluation/reliability.csv    run, confidence, accuracy, num_images by bin
        evaluation/history.csv        run and its training curves
        evaluation/figures/*.png          accuracy, confusion, roc, reliability, history, and `more_figures`

    Files of runs that are gone are removed. The same input gives the same bytes.

    Args:
        runs, margin, reference, remarks, temperatures, yardsticks: As for `summarise`.
        branches: By run name, the protection or head that it is a view of, for details.json; a run that is not named is its own.
        histories: By run name, the epochs of its training, with at least the columns epoch, loss, accuracy, val_loss, val_accuracy.
        more: By run name, further figures for metrics.json.
        more_figures: By name, further pictures.

    Raises:
        DataError: As `summarise`; or a history lacks a column or has no epoch.
        ConfigError: As `summarise`.
    """
    histories = dict(histories or {})
    for name, history in histories.items():
        missing = [column for column in HISTORY_COLUMNS if column not in history]
        if missing or history.empty:
            raise DataError(f"the history of run {name!r} must have epochs and the columns {list(HISTORY_COLUMNS)}, got {list(history)}")
    summary = summarise(runs, margin=margin, reference=reference, remarks=remarks, temperatures=temperatures, yardsticks=yardsticks)
    folder = out_dir / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(out_dir / "metrics.json", {name: figures | dict((more or {}).get(name, {})) for name, figures in summary.metrics.items()})
    write_json(folder / "details.json", summary.details | {"branches": {name: name for name in summary.runs} | dict(branches or {})})
    (folder / "results.md").write_text(markdown(summary), encoding="utf-8", newline="\n")
    _write_tables(folder, runs, histories)
    _empty(folder / "figures", "*.png")
    _write_figures(folder / "figures", figures(summary, runs, histories), DPI)
    _write_figures(folder / "figures", (more_figures or {}).items(), PICTURE_DPI)
    return summary


def figures(summary: Summary, runs: Mapping[str, Predictions], histories: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, Figure]]:
    """Draw the figures of a report one after another: (name, figure)."""
    trained = {name: predictions for name, predictions in runs.items() if name != BORDER}
    yield "accuracy", plot_accuracy(summary.runs, summary.baselines, summary.comparisons, reference=summary.reference)
    yield "confusion", plots.plot_confusion({name: result["confusion"] for name, result in summary.runs.items()}, summary.class_names)
    yield "roc", plots.plot_roc(trained, summary.runs)
    yield "reliability", plots.plot_reliability(trained, summary.runs)
    if histories:
        yield "history", plot_histories(histories)


def confusion_table(predictions: Predictions) -> pd.DataFrame:
    """Return the names of the actual and the predicted class of each image, which is what DVC's confusion template counts."""
    names = np.array(predictions.class_names)
    return pd.DataFrame({"actual": names[predictions.labels], "predicted": names[predictions.predicted]})


def _write_tables(folder: Path, runs: Mapping[str, Predictions], histories: Mapping[str, pd.DataFrame]) -> None:
    _empty(folder / "predictions", "*.csv")
    for name, predictions in runs.items():
        _write_table(folder / f"predictions/{name}.csv", confusion_table(predictions))
    tables = {
        "roc": {name: roc_table(predictions) for name, predictions in runs.items()},
        "reliability": {name: reliability_table(predictions) for name, predictions in runs.items()},
        "history": histories,
    }
    for table, parts in tables.items():  # all runs in one file, so that DVC draws them in one plot
        (folder / f"{table}.csv").unlink(missing_ok=True)
        if parts:
            _write_table(folder / f"{table}.csv", pd.concat(parts, names=["run", None]).reset_index("run"))


def _write_table(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def _write_figures(folder: Path, drawn: Iterable[tuple[str, Figure]], dpi: int) -> None:
    for name, figure in drawn:
        figure.savefig(folder / f"{name}.png", dpi=dpi, metadata={"Software": None})  # no version: the same bytes again


def _empty(folder: Path, pattern: str) -> None:
    folder.mkdir(exist_ok=True)
    for stale in folder.glob(pattern):
        stale.unlink()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write figures, rounded; the same figures give the same bytes."""
    text = json.dumps(_rounded(content), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _rounded(content: Any) -> Any:
    """Round numbers to six significant digits, which is more than the intervals leave."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_rounded(value) for value in content]
    return float(f"{content:.6g}") if isinstance(content, float) else content
