"""Tables behind the curves: receiver operating characteristic and reliability, as data for figures and for DVC's plots."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.predictions.scores import NUM_BINS, bin_of, probabilities

MACRO = "true_positive_rate"
NUM_ROC_POINTS = 201


def roc_table(predictions: Predictions) -> pd.DataFrame:
    """Return the ROC curves of each class against the rest at common false positive rates.

    Returns:
        201 rows: `false_positive_rate`, `true_positive_rate` (the mean over classes), then one column a class that has both test
        images and others beside it. At a vertical step the upper end is taken.
    """
    grid = np.linspace(0, 1, NUM_ROC_POINTS)
    chances = probabilities(predictions.logits)
    curves = {}
    for c in np.unique(predictions.labels):
        positive = predictions.labels == c
        if not positive.all():
            false_rate, true_rate, _ = roc_curve(positive, chances[:, c])
            curves[predictions.class_names[c]] = np.interp(grid, false_rate, true_rate)
    mean = np.mean(list(curves.values()), axis=0) if curves else np.full(NUM_ROC_POINTS, np.nan)
    return pd.DataFrame({"false_positive_rate": grid, MACRO: mean} | curves)


def reliability_table(predictions: Predictions) -> pd.DataFrame:
    """Return, for each calibration bin that has images: bin_low, bin_high, mean confidence, accuracy, num_images."""
    chances = probabilities(predictions.logits)
    confidence = chances[np.arange(len(predictions)), predictions.predicted]
    images = pd.DataFrame(
        {"bin": bin_of(confidence), "confidence": confidence, "accuracy": predictions.predicted == predictions.labels},
    )
    table = images.groupby("bin").agg(confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), num_images=("bin", "size"))
    table.insert(0, "bin_low", table.index / NUM_BINS)
    table.insert(1, "bin_high", (table.index + 1) / NUM_BINS)
    return table.reset_index(drop=True)
