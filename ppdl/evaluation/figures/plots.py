"""Figures of the reports. Each function returns a matplotlib Figure and touches neither files nor matplotlib's global state."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ppdl.evaluation.figures.style import GRAY, LEGEND, MAX_COLUMNS, PALETTE, PANEL, TITLE
from ppdl.evaluation.measures.curves import reliability_table, roc_table
from ppdl.evaluation.predictions.calibration import CALIBRATED, calibrated
from ppdl.evaluation.predictions.predictions import Predictions


def plot_confusion(confusions: Mapping[str, Mapping[str, list[Any]]], class_names: Sequence[str]) -> Figure:
    """Draw one confusion matrix a run: the share of each actual class, its 95 % interval and the number of images.

    Args:
        confusions: by run, the `confusion` part of `evaluate`.
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
        results: by run, what `evaluate` returned.
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
        results: by run, what `evaluate` returned. Where it holds a `temperature`, a second panel shows the probabilities at it.
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


def _cell(confusion: Mapping[str, list[Any]], row: int, column: int) -> str:
    count = f"{confusion['counts'][row][column]:,}"
    if confusion["share"][row][column] is None:
        return count
    share, low, high = (100 * confusion[key][row][column] for key in ("share", "share_low", "share_high"))
    return f"{share:.1f} %\n[{low:.1f}, {high:.1f}]\n{count}"
