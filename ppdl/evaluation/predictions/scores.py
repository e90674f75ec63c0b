"""Every metric of some predictions, on all images and without each group.

The metric itself and its values without one group come out of the same lines. Most metrics are functions of sums over images, so a group
is left out by a subtraction; the AUROC counts pairs of images, and a group takes its pairs along. Nothing is drawn, so the same
predictions always give the same figures.

scikit-learn gives the same figures (the tests compare) but takes one set of images at a time.
"""

import numpy as np
from scipy.special import log_softmax

from ppdl.evaluation.predictions.intervals import group_sums
from ppdl.evaluation.predictions.predictions import Predictions

NUM_BINS = 15


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis, in float64, so that confident predictions rarely tie at 1."""
    return np.exp(log_softmax(np.asarray(logits, np.float64), axis=-1))


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Return the calibration bin of each confidence: [0, 1/15), [1/15, 2/15) and so on, 1 itself in the last."""
    return np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)


def scores(predictions: Predictions, codes: np.ndarray, num_groups: int) -> dict[str, np.ndarray]:
    """Compute every metric on all images, in row 0, and without group g, in row 1 + g.

    Args:
        predictions: k classes.
        codes: (num_images,) the group of each image, in [0, num_groups).

    Returns:
        By name, with m = 1 + num_groups: (m,) for metrics of a run, (m, k) for those of a class (their names begin with class_), (m, k, k)
        for `confusion`, the share of the row's class. NaN where a metric is undefined.

    Cost: 20,000 images in 10,000 groups and 4 classes take 0.5 s.
    """
    k, chances = len(predictions.class_names), probabilities(predictions.logits)
    of_groups = group_sums(_image_values(predictions, chances), codes, num_groups)  # (num_groups, k * k + NUM_BINS + 2)
    total = of_groups.sum(axis=0)
    sums = np.concatenate([total[None], total - of_groups])
    counts = np.rint(sums[:, : k * k]).reshape(-1, k, k)
    gaps, (brier, log_loss) = sums[:, k * k : -2], sums[:, -2:].T
    num_images = counts.sum(axis=(1, 2))
    hits, actual, said = np.einsum("mcc->mc", counts), counts.sum(axis=2), counts.sum(axis=1)
    aurocs = np.stack([auroc(chances[:, c], predictions.labels == c, codes, num_groups) for c in range(k)], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is the NaN of an absent class, or of no image at all
        recall, f1 = hits / actual, np.where(actual > 0, 2 * hits / (actual + said), np.nan)
        return {
            "accuracy": hits.sum(axis=1) / num_images,
            "balanced_accuracy": _mean_of_defined(recall),
            "macro_f1": _mean_of_defined(f1),
            "auroc": _mean_of_defined(aurocs),
            "ece": np.abs(gaps).sum(axis=1) / num_images,
            "brier": brier / num_images,
            "log_loss": log_loss / num_images,
            "class_precision": hits / np.maximum(said, 1),  # 1 only stands in for 0
            "class_recall": recall,
            "class_f1": f1,
            "class_auroc": aurocs,
            "confusion": counts / actual[:, :, None],
        }


def auroc(values: np.ndarray, positive: np.ndarray, codes: np.ndarray, num_groups: int) -> np.ndarray:
    """Return the area under the ROC curve on all images and without each group, (1 + num_groups,); ties count half.

    Args:
        values: (num_images,) larger means positive.
        positive: (num_images,) bool.
        codes: (num_images,) the group of each image.

    Returns:
        NaN where there are no positives or no negatives.

    Source: Mann and Whitney's form, the share of (positive, negative) pairs in the right order; what a group takes along are the sums of
        its images' placements (DeLong et al., Biometrics 44 (1988) 837; by groups: Obuchowski, Biometrics 53 (1997) 567).
    """
    everywhere = _won(values, positive)
    pairs = np.bincount(codes, everywhere, num_groups)
    kinds = np.stack([np.bincount(codes[positive], minlength=num_groups), np.bincount(codes[~positive], minlength=num_groups)])
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(kinds.sum(axis=0))])
    for g in np.flatnonzero(kinds.all(axis=0)):  # pairs inside a group were counted from both of their images
        rows = order[starts[g] : starts[g + 1]]
        ours, theirs = values[rows][positive[rows]], values[rows][~positive[rows]]
        pairs[g] -= (1 + np.sign(ours[:, None] - theirs)).sum() / 2
    right = np.concatenate([[everywhere[positive].sum()], everywhere[positive].sum() - pairs])
    left = kinds.sum(axis=1)[:, None] - np.concatenate([np.zeros((2, 1)), kinds], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return right / (left[0] * left[1])


def _won(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return how many images of the other kind each one is on the right side of, ties as halves: (num_images,) float64."""
    won = np.empty(len(values))
    for members in (positive, ~positive):
        others, own = np.sort(values[~members]), values[members]
        won[members] = (np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")) / 2  # those of the other kind below
    won[~positive] = positive.sum() - won[~positive]
    return won


def _image_values(predictions: Predictions, chances: np.ndarray) -> np.ndarray:
    """Return what is summed over images: (n, k * k + NUM_BINS + 2).

    The columns: one of the cells (actual, predicted); correct minus confidence, in the column of its bin; the Brier score; the log loss.
    """
    labels, predicted = predictions.labels, predictions.predicted
    n, k = chances.shape
    rows = np.arange(n)
    confidence = chances[rows, predicted]
    values = np.zeros((n, k * k + NUM_BINS + 2))
    values[rows, labels * k + predicted] = 1
    values[rows, k * k + bin_of(confidence)] = (labels == predicted) - confidence
    values[:, -2] = np.square(chances - np.eye(k)[labels]).sum(axis=1)
    values[:, -1] = -log_softmax(predictions.logits.astype(np.float64), axis=1)[rows, labels]
    return values


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what is not NaN, NaN where nothing is left."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(defined, values, 0).sum(axis=-1) / defined.sum(axis=-1)
