"""Figures of the reports. Each function returns a matplotlib Figure and touches neither files nor matplotlib's global state."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ppdl.evaluation.measures.curves import reliability_table, roc_table
from ppdl.evaluation.predictions.calibration import CALIBRATED, calibrated
from ppdl.evaluation.predictions.predictions import Predictions

# Okabe and Ito's palette, which colour-blind readers can tell apart; yellow is left out, since it vanishes on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GRAY = "#767676"
PANEL = 2.9  # inches
TITLE = 10  # points
MAX_COLUMNS = 3
PERCENT = PercentFormatter(1, symbol=" %")
LEGEND = {"framealpha": 0.85, "edgecolor": "none", "fancybox": False}


def plot_history(history: pd.DataFrame, *, title: str) -> Figure:
    """Draw loss and accuracy of one training over its epochs; a vertical line marks the best validation loss.

    Args:
        history: columns epoch, loss, accuracy, val_loss, val_accuracy.
    """
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=TITLE)
    best = history["epoch"][history["val_loss"].idxmin()]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        marker = "o" if len(history) == 1 else None  # one epoch is a point, not a line
        axes.plot(history["epoch"], history[name], color=GRAY, ls="--", marker=marker, label="training")
        axes.plot(history["epoch"], history[f"val_{name}"], color=PALETTE[0], marker=marker, label="validation")
        axes.axvline(best, color=GRAY, lw=0.8, ls=":", label="lowest validation loss")
        _history_axes(axes, name)
    figure.axes[0].legend(loc="upper right", fontsize=8, **LEGEND)
    return figure


def plot_histories(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw validation loss and accuracy of several trainings over their epochs."""
    figure = Figure(figsize=(8.6, 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for number, (run, history) in enumerate(histories.items()):
            line_style = ("-", "--", ":")[number // len(PALETTE) % 3]
            marker = "o" if len(history) == 1 else None
            color = PALETTE[number % len(PALETTE)]
            axes.plot(history["epoch"], history[f"val_{name}"], color=color, ls=line_style, marker=marker, label=run)
        _history_axes(axes, f"validation {name}")
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside right center")
    return figure


def plot_confusion(confusions: Mapping[str, Mapping[str, list[Any]]], class_names: Sequence[str]) -> Figure:
    """Draw one confusion matrix a run: the share of each actual class, its 95 % interval and the number of images.

    Args:
        confusions: by run, the `confusion` part of `evaluate_run`.
    """
    k = len(class_names)
    figure, panels = _panels(confusions, panel=max(PANEL, 0.85 * k + 0.4), sharey=True)
    names = [name.replace(" ", "\n").replace("_", "\n") for name in class_names]
    for axes, (run, confusion) in zip(panels, confusions.items(), strict=True):
        share = np.array(confusion["share"], float)  # None of a class without images becomes NaN, drawn white
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(k, k):
            color = "white" if share[row, column] > 0.6 else "black"
            axes.text(column, row, _cell(confusion, row, column), ha="center", va="center", fontsize=7, color=color)
        axes.set_title(run, loc="left", fontsize=TITLE)
        axes.set_xticks(range(k), names, fontsize=8)
        axes.set_yticks(range(k), names, fontsize=8)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    figure.supxlabel("predicted class\n(share of the actual class, 95 %, images)", fontsize=TITLE)
    figure.supylabel("actual class", fontsize=TITLE)
    return figure


def plot_roc(runs: Mapping[str, Predictions], results: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the ROC curves of each class against the rest, one panel a run, with the areas and their 95 % intervals.

    Args:
        results: by run, what `evaluate_run` returned.
    """
    figure, panels = _panels(runs)
    for axes, (run, predictions) in zip(panels, runs.items(), strict=True):
        table = roc_table(predictions)
        axes.plot([0, 1], [0, 1], color=GRAY, lw=0.8, ls=":")
        for c, name in enumerate(predictions.class_names):
            if name in table:
                of = results[run]["per_class"][name]
                label = f"{name}  {of['auroc']:.3f} [{of['auroc_low']:.3f}, {of['auroc_high']:.3f}]"
                rates = np.concatenate([[0.0], table[name]])  # so that the step at a false positive rate of 0 is seen
                axes.plot(np.concatenate([[0.0], table["false_positive_rate"]]), rates, color=PALETTE[c % len(PALETTE)], label=label)
        _unit_square(axes)
        axes.set_title(run, loc="left", fontsize=TITLE)
        axes.legend(loc="lower right", fontsize=6.5, handlelength=1.2, title="AUROC [95 %]", title_fontsize=7, **LEGEND)
    figure.supxlabel("false positive rate", fontsize=TITLE)
    figure.supylabel("true positive rate", fontsize=TITLE)
    return figure


def plot_reliability(runs: Mapping[str, Predictions], results: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw accuracy against confidence by calibration bin, one panel a run; a dot's area grows with its share of the images.

    Args:
        results: by run, what `evaluate_run` returned. Where it holds a `temperature`, a second panel shows the probabilities at it.
    """
    drawn: dict[str, tuple[Predictions, Mapping[str, Any], str]] = {}
    for run, predictions in runs.items():
        drawn[run] = predictions, results[run], ""
        if temperature := results[run].get("temperature"):
            drawn[f"{run}, T = {temperature:.2f}"] = calibrated(predictions, temperature), results[run], CALIBRATED
    figure, panels = _panels(drawn, columns=4 if len(drawn) > len(runs) else MAX_COLUMNS)
    for axes, (title, (predictions, of, suffix)) in zip(panels, drawn.items(), strict=True):
        table = reliability_table(predictions)
        axes.plot([0, 1], [0, 1], color=GRAY, lw=0.8, ls=":")
        axes.vlines(table["confidence"], table["confidence"], table["accuracy"], color=PALETTE[1], lw=1)
        area = 4 + 160 * table["num_images"] / len(predictions)
        color = PALETTE[2 if suffix else 0]
        axes.scatter(table["confidence"], table["accuracy"], s=area, color=color, alpha=0.85, lw=0, clip_on=False, zorder=3)
        ece, low, high = (of[f"ece{suffix}{end}"] for end in ("", "_low", "_high"))
        axes.text(0.03, 0.97, f"ECE {ece:.3f}\n[{low:.3f}, {high:.3f}]", va="top", fontsize=8)
        _unit_square(axes)
        axes.set_title(title, loc="left", fontsize=TITLE)
    figure.supxlabel("confidence\n(dotted: as often right as it says; area: share of images)", fontsize=TITLE)
    figure.supylabel("accuracy", fontsize=TITLE)
    return figure


def _panels(
    runs: Mapping[str, Any], panel: float = PANEL, *, sharey: bool = False, columns: int = MAX_COLUMNS
) -> tuple[Figure, list[Axes]]:
    columns = min(len(runs), columns)
    rows = math.ceil(len(runs) / columns)
    figure = Figure(figsize=(panel * columns + 0.8, panel * rows + 0.4), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08))
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for axes in panels[len(runs) :]:
        axes.remove()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels[: len(runs)]


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])


def _history_axes(axes: Axes, name: str) -> None:
    axes.set(xlabel="epoch", ylabel=name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if name.endswith("accuracy"):
        axes.yaxis.set_major_formatter(PERCENT)


def _cell(confusion: Mapping[str, list[Any]], row: int, column: int) -> str:
    count = f"{confusion['counts'][row][column]:,}"
    if confusion["share"][row][column] is None:
        return count
    share, low, high = (100 * confusion[key][row][column] for key in ("share", "share_low", "share_high"))
    return f"{share:.1f} %\n[{low:.1f}, {high:.1f}]\n{count}"
