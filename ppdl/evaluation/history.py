"""The course of one training as a figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

_TRAIN, _VALIDATION = "#0072b2", "#d55e00"  # Okabe and Ito's palette: apart for colour-blind readers too


def plot_history(history: pd.DataFrame, *, title: str, best_epoch: int) -> Figure:
    """Plot loss and accuracy of training and validation over epochs.

    Args:
        history: one row an epoch: epoch, loss, accuracy, val_loss, val_accuracy.
        title: the run's name.
        best_epoch: the epoch whose weights were kept.
    """
    figure = Figure(figsize=(8, 3.2), layout="constrained", dpi=120)
    figure.suptitle(title, fontsize=11)
    for axis, (metric, label) in zip(figure.subplots(1, 2), (("loss", "loss"), ("accuracy", "accuracy")), strict=True):
        axis.plot(history["epoch"], history[metric], marker=".", color=_TRAIN, label="training")
        axis.plot(history["epoch"], history[f"val_{metric}"], marker=".", color=_VALIDATION, label="validation")
        axis.axvline(best_epoch, color="0.6", linewidth=1, linestyle=":", label=f"kept: epoch {best_epoch}")
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.spines[["top", "right"]].set_visible(False)
        if metric == "accuracy":
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axis.legend(frameon=False, fontsize=8, loc="lower right")
        else:
            axis.set_ylim(bottom=0)
    return figure
