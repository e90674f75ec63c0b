"""Figures of trainings over their epochs."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ppdl.evaluation.figures.style import GRAY, LEGEND, PALETTE, PERCENT, TITLE


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


def _history_axes(axes: Axes, name: str) -> None:
    axes.set(xlabel="epoch", ylabel=name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if name.endswith("accuracy"):
        axes.yaxis.set_major_formatter(PERCENT)
