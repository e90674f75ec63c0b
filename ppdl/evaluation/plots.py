"""Figures of the test results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import roc_curve

from ppdl.evaluation.predictions import Predictions
from ppdl.evaluation.weighted import NUM_BINS, bin_of, probabilities

# Okabe and Ito's palette: apart for colour-blind readers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def plot_confusion(result: Mapping[str, Any], class_names: tuple[str, ...], *, title: str) -> Figure:
    """Plot a confusion matrix: counts, shaded by the share of the actual class."""
    counts, share = np.array(result["confusion"]["counts"]), np.array(result["confusion"]["share"], float)
    figure = Figure(figsize=(1.6 + 0.95 * len(class_names), 1.2 + 0.8 * len(class_names)), layout="constrained", dpi=120)
    axis = figure.subplots()
    image = axis.imshow(np.nan_to_num(share), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        dark = share[row, column] > 0.6
        text = f"{count}\n{100 * share[row, column]:.0f} %" if np.isfinite(share[row, column]) else "0"
        axis.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
    ticks = np.arange(len(class_names))
    axis.set_xticks(ticks, class_names, rotation=30, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(ticks, class_names, fontsize=8)
    axis.set(xlabel="predicted", ylabel="actual")
    axis.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axis, format=PercentFormatter(1), shrink=0.8)
    return figure


def plot_roc(predictions: Predictions, *, title: str) -> Figure:
    """Plot each class against the rest as a ROC curve."""
    figure, axis = _square(title, "false positive rate", "true positive rate")
    chances = probabilities(predictions.logits)
    for c, name in enumerate(predictions.class_names):
        actual = predictions.labels == c
        if actual.any() and not actual.all():
            false_positive, true_positive, _ = roc_curve(actual, chances[:, c])
            axis.plot(false_positive, true_positive, color=COLOURS[c % len(COLOURS)], label=name)
    axis.plot([0, 1], [0, 1], color="0.7", linestyle=":", label="chance")
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def plot_reliability(predictions: Predictions, *, title: str) -> Figure:
    """Plot accuracy over confidence in 15 bins; the area of a point is its bin's share of images."""
    figure, axis = _square(title, "confidence", "accuracy")
    confidence = probabilities(predictions.logits).max(axis=1)
    bins, correct = bin_of(confidence), predictions.predicted == predictions.labels
    counts = np.bincount(bins, minlength=NUM_BINS)
    used = counts > 0
    mean = [np.bincount(bins, weights=values, minlength=NUM_BINS)[used] / counts[used] for values in (confidence, correct)]
    axis.plot([0, 1], [0, 1], color="0.7", linestyle=":", label="calibrated")
    axis.plot(*mean, color=COLOURS[0], linewidth=1)
    axis.scatter(*mean, s=20 + 300 * counts[used] / counts.sum(), color=COLOURS[0], alpha=0.8, label="test images")
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def plot_accuracy(results: Mapping[str, Mapping[str, Any]], baselines: Mapping[str, Mapping[str, float]]) -> Figure:
    """Plot the accuracy of every run with its interval, beside chance and the border-only baseline."""
    names = list(results)[::-1]
    figure = Figure(figsize=(7.5, 1.3 + 0.45 * len(names)), layout="constrained", dpi=120)
    axis = figure.subplots()
    for i, name in enumerate(names):
        result = results[name]
        ends = [[result["accuracy"] - result["accuracy_low"]], [result["accuracy_high"] - result["accuracy"]]]
        axis.errorbar(result["accuracy"], i, xerr=ends, fmt="o", color=COLOURS[0], capsize=3)
        axis.annotate(f"{100 * result['accuracy']:.1f} %", (result["accuracy"], i), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    for (name, baseline), colour in zip(baselines.items(), ("0.5", COLOURS[1]), strict=False):
        axis.axvline(baseline["accuracy"], color=colour, linestyle=":", label=f"{name}: {100 * baseline['accuracy']:.1f} %")
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set_ylim(-0.6, len(names) - 0.3)
    axis.set_xlabel("test accuracy with 95 % interval")
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    return figure


def _square(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4, 4), layout="constrained", dpi=120)
    axis = figure.subplots()
    axis.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axis.set_title(title, fontsize=10)
    for which in (axis.xaxis, axis.yaxis):
        which.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis
