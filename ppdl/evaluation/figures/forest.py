"""The one figure that answers the question: accuracy of every run with its interval, and what it loses against plain."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ppdl.evaluation.figures.style import GRAY, PALETTE, TITLE
from ppdl.evaluation.measures.statistics import INCONCLUSIVE, INFERIOR, NON_INFERIOR, TOO_FEW, Comparison, points

COLORS = {NON_INFERIOR: PALETTE[0], INCONCLUSIVE: PALETTE[5], INFERIOR: PALETTE[1], TOO_FEW: GRAY}
MARKERS = {NON_INFERIOR: "o", INCONCLUSIVE: "D", INFERIOR: "s", TOO_FEW: "x"}
_Results = Mapping[str, Mapping[str, Any]]

SHOWN_MARGINS = 4  # differences beyond so many margins are written at the edge: a run at chance would squeeze all others together


def plot_accuracy(results: _Results, baselines: _Results, comparisons: Mapping[str, Comparison], *, reference: str) -> Figure:
    """Draw accuracy with 95 % intervals on the left, the difference to the reference with the margin on the right.

    Args:
        results: by run, what `evaluate` returned.
        baselines: by name, dictionaries with accuracy and, where they were tested on images, accuracy_low and accuracy_high.
        comparisons: by run, against `reference`; without any the right panel is left out.
    """
    rows = len(results) + len(baselines)
    figure = Figure(figsize=(9.0 if comparisons else 5.6, 1.3 + 0.32 * rows), layout=ConstrainedLayoutEngine(wspace=0.06))
    panels = figure.subplots(1, 2 if comparisons else 1, sharey=True, squeeze=False)[0]
    _accuracy_panel(panels[0], results, baselines, comparisons)
    panels[0].set_yticks(range(rows), [*results, *(f"baseline: {name}" for name in baselines)])
    panels[0].set_ylim(rows - 0.4, -0.6)
    if comparisons:
        _difference_panel(panels[1], list(results), comparisons, reference)
        verdicts = {comparison.verdict for comparison in comparisons.values()}
        handles = [
            panels[1].plot([], [], ls="", marker=MARKERS[verdict], color=COLORS[verdict], label=verdict)[0]
            for verdict in COLORS
            if verdict in verdicts
        ]
        panels[1].legend(handles=handles, frameon=False, loc="lower left", fontsize=8)  # beside the baselines, where no run is
    return figure


def _accuracy_panel(axes: Axes, results: _Results, baselines: _Results, comparisons: Mapping[str, Comparison]) -> None:
    for row, (run, result) in enumerate(results.items()):
        verdict = comparisons[run].verdict if run in comparisons else ""
        ends = [result["accuracy"], result["accuracy_low"], result["accuracy_high"]]
        _whisker(axes, row, *ends, color=COLORS.get(verdict, "black"), marker=MARKERS.get(verdict, "o"))
    for row, result in enumerate(baselines.values(), start=len(results)):
        accuracy = result["accuracy"]
        _whisker(axes, row, accuracy, result.get("accuracy_low", accuracy), result.get("accuracy_high", accuracy), color=GRAY, marker="d")
        axes.axvline(100 * accuracy, color=GRAY, lw=0.8, ls=":", zorder=0)
    axes.set(xlabel="accuracy on the test images, %", xlim=(None, 100.5))
    axes.set_title("Accuracy, 95 % interval", loc="left", fontsize=TITLE)
    _frame(axes)


def _difference_panel(axes: Axes, runs: list[str], comparisons: Mapping[str, Comparison], reference: str) -> None:
    margin = 100 * next(iter(comparisons.values())).margin
    shown = {run: found for run, found in comparisons.items() if abs(100 * found.difference) <= SHOWN_MARGINS * margin}
    left = min([-SHOWN_MARGINS * margin, *(105 * found.low for found in shown.values())])
    right = max([SHOWN_MARGINS / 2 * margin, *(105 * found.high for found in shown.values())])
    for run, found in comparisons.items():
        color = COLORS[found.verdict]
        if run in shown:
            _whisker(axes, runs.index(run), found.difference, found.low, found.high, color=color, marker=MARKERS[found.verdict])
        else:
            _arrow(axes, runs.index(run), found, left if found.difference < 0 else right, color)
    axes.axvline(0, color="black", lw=0.8, zorder=1)
    axes.axvline(-margin, color=PALETTE[1], lw=1, ls="--", zorder=1)
    at: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "top", "fontsize": 8}
    axes.annotate("margin", (-margin, 1), (3, -2), color=PALETTE[1], **at)
    axes.set(xlim=(left, right), xlabel="points of accuracy")
    axes.set_title(f"Difference to {reference}, 95 % interval", loc="left", fontsize=TITLE)
    _frame(axes)


def _arrow(axes: Axes, row: int, found: Comparison, edge: float, color: str) -> None:
    """Write a difference that lies beyond the edge of the axes."""
    lower = found.difference < 0
    axes.plot(edge, row, "<" if lower else ">", color=color, ms=6, clip_on=False)
    text = f"{points(found.difference)} [{points(found.low)}, {points(found.high)}]"
    place: dict[str, Any] = {"textcoords": "offset points", "ha": "left" if lower else "right", "va": "center_baseline"}
    axes.annotate(text, (edge, row), (8 if lower else -8, 0), color=color, fontsize=8, **place)


def _whisker(axes: Axes, row: int, estimate: float, low: float, high: float, *, color: str, marker: str) -> None:
    """Draw an estimate with its interval, given as shares, in percent or points."""
    axes.hlines(row, 100 * low, 100 * high, color=color, lw=2)
    axes.plot(100 * estimate, row, marker, color=color, ms=5)


def _frame(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
