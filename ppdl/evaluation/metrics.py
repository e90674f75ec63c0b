"""How good the predictions of one run are, each figure with its 95 % interval.

Definitions, for k classes and probabilities p = softmax(logits):

- accuracy; balanced_accuracy, the mean recall; macro_f1, the mean F1. The precision of a class that was never predicted counts as 0.
- auroc: each class against the rest by its probability, the mean over classes.
- ece: expected calibration error of the largest probability in 15 bins of equal width on [0, 1]: the sum over bins of the bin's share
  of images times |accuracy - mean confidence| in it.
- brier: the mean of sum_c (p_c - [label = c])^2, from 0 to 2.  log_loss: the mean of -ln p_label.

A class without a test image has no recall, F1 and AUROC (None), and means over classes leave it out; the same holds in a resample that
happens to miss a class. With images of a single class there is no AUROC at all (None).

Source: Guo et al. 2017 (arXiv 1706.04599), section 2, for the calibration error; Brier, Monthly Weather Review 78 (1950) 1, for the
    score of several classes.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from ppdl.evaluation.bootstrap import Interval, group_codes, interval, resamples, share_interval
from ppdl.evaluation.predictions import Predictions
from ppdl.evaluation.weighted import WeightedMetrics

logger = logging.getLogger(__name__)

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece", "brier", "log_loss")
CLASS_METRICS = ("precision", "recall", "f1", "auroc")


def evaluate_run(
    labels: np.ndarray,
    logits: np.ndarray,
    class_names: Sequence[str],
    *,
    num_bootstrap: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """Compute every metric of one run with its interval.

    Args:
        labels: (num_images,) integers in [0, num_classes).
        logits: (num_images, num_classes).
        num_bootstrap: Resamples behind each interval.
        groups: (num_images,) integers or text: images of one group are resampled together. None: every image is its own group.

    Returns:
        NAME, NAME_low and NAME_high for each of METRICS; num_images and num_groups; and two nested parts. `per_class`: by class name
        the same three keys for each of CLASS_METRICS, and num_images. `confusion`: counts, share (of the row's images), share_low and
        share_high, each a list with one row an actual class and one column a predicted class. What is undefined is None.

    Raises:
        DataError: The arrays do not fit each other, are not finite or out of range, or all images are of one group.
        ConfigError: `num_bootstrap` is too small for a 95 % interval.

    Cost: 2,000 resamples of 1,200 images in 4 classes take 0.2 s, of 20,000 images 3 s; memory below 100 MB.
    """
    rows = np.arange(len(labels))
    return evaluate(
        Predictions(labels, logits, rows if groups is None else groups, rows, tuple(class_names)), num_bootstrap=num_bootstrap, seed=seed
    )


def evaluate(predictions: Predictions, *, num_bootstrap: int, seed: int) -> dict[str, Any]:
    """Do what `evaluate_run` does, for Predictions."""
    names = predictions.class_names
    absent = [name for c, name in enumerate(names) if c not in predictions.labels]
    if absent:
        logger.warning("no test image is of class %s: it has no recall, F1 and AUROC, and means leave it out", ", ".join(absent))
    codes, num_groups = group_codes(predictions.groups)
    compute = WeightedMetrics(predictions, codes, num_groups)
    estimates = {name: values[0] for name, values in compute(np.ones((1, num_groups))).items()}
    chunks = [compute(weights) for weights in resamples(num_groups, num_bootstrap=num_bootstrap, seed=seed, width=len(predictions))]
    samples = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in estimates}

    result: dict[str, Any] = {}
    for name in METRICS:
        if name == "accuracy":
            ends = share_interval(samples[name], estimates[name], num_groups)
        else:
            ends = interval(samples[name], estimates[name], recentre=name == "ece")
        result |= _with_ends(name, estimates[name], ends)
    return result | {
        "num_images": len(predictions),
        "num_groups": num_groups,
        "per_class": {name: _class_metrics(predictions, c, estimates, samples) for c, name in enumerate(names)},
        "confusion": _confusion(predictions, estimates["confusion"], samples["confusion"]),
    }


def _class_metrics(
    predictions: Predictions, c: int, estimates: dict[str, np.ndarray], samples: dict[str, np.ndarray]
) -> dict[str, float | int | None]:
    """Return precision, recall, F1 and AUROC of class `c`, each with its interval."""
    actual, said = predictions.labels == c, predictions.predicted == c
    trials = {"recall": _num_groups(predictions, actual), "precision": _num_groups(predictions, said)}
    result: dict[str, float | int | None] = {}
    for name in CLASS_METRICS:
        estimate, resampled = estimates[f"class_{name}"][c], samples[f"class_{name}"][:, c]
        ends = share_interval(resampled, estimate, trials[name]) if name in trials else interval(resampled, estimate)
        result |= _with_ends(name, estimate, ends)
    return result | {"num_images": int(actual.sum())}


def _confusion(predictions: Predictions, share: np.ndarray, samples: np.ndarray) -> dict[str, list[Any]]:
    """Return the confusion matrix: counts, and the share of each row with its interval."""
    k = len(predictions.class_names)
    ends = np.empty((2, k, k), object)
    for c in range(k):
        num_groups = _num_groups(predictions, predictions.labels == c)
        for other in range(k):
            ends[:, c, other] = share_interval(samples[:, c, other], share[c, other], num_groups)
    return {
        "counts": confusion_matrix(predictions.labels, predictions.predicted, labels=np.arange(k)).tolist(),
        "share": [[_number(value) for value in row] for row in share],
        "share_low": [[_number(value) for value in row] for row in ends[0]],
        "share_high": [[_number(value) for value in row] for row in ends[1]],
    }


def _num_groups(predictions: Predictions, chosen: np.ndarray) -> int:
    """Return how many groups have an image among the chosen ones."""
    return len(np.unique(predictions.groups[chosen]))


def _with_ends(name: str, estimate: float, ends: Interval) -> dict[str, float | None]:
    return {name: _number(estimate), f"{name}_low": _number(ends[0]), f"{name}_high": _number(ends[1])}


def _number(value: float | None) -> float | None:
    """Return a plain float, None for what is undefined, since JSON knows no NaN."""
    return None if value is None or np.isnan(value) else float(value)
