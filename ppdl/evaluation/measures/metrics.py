"""How good the predictions of one run are, each figure with its 95 % interval.

Definitions, for k classes and probabilities p = softmax(logits):

- accuracy; balanced_accuracy, the mean recall; macro_f1, the mean F1. The precision of a class that was never predicted counts as 0.
- auroc: each class against the rest by its probability, the mean over classes.
- ece: expected calibration error of the largest probability in 15 bins of equal width on [0, 1]: the sum over bins of the bin's share
  of images times |accuracy - mean confidence| in it.
- brier: the mean of sum_c (p_c - [label = c])^2, from 0 to 2.  log_loss: the mean of -ln p_label.

A class without a test image has no recall, F1 and AUROC (None), and means over classes leave it out. With images of a single class there is
no AUROC at all (None). A mean over classes has the evidence of the class with the least.

Of several training seeds a figure is the mean over seeds, and its interval holds for other seeds as well (`seeds`).

Source: Guo et al. 2017 (arXiv 1706.04599), section 2, for the calibration error; Brier, Monthly Weather Review 78 (1950) 1, for the
    score of several classes.
"""

import logging
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from ppdl.evaluation.predictions.intervals import MIN_GROUPS, Interval, Support, group_codes, jackknife, share_interval, value_interval
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.predictions.scores import scores
from ppdl.evaluation.predictions.seeds import Spread, folds_of_groups, seeds_of

logger = logging.getLogger(__name__)

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece", "brier", "log_loss")
CLASS_METRICS = ("precision", "recall", "f1", "auroc")
LARGEST = {"ece": 1.0, "brier": 2.0, "log_loss": np.inf}  # of the means of numbers; all other metrics are made of shares


def evaluate(predictions: Predictions) -> dict[str, Any]:
    """Compute every metric of one run with its interval (`intervals`); images of one group bear witness together.

    Returns:
        NAME, NAME_low and NAME_high for each of METRICS; num_images and num_groups; and two nested parts. `per_class`: by class name
        the same three keys for each of CLASS_METRICS, and num_images. `confusion`: counts (of all seeds), share (of the row's images),
        share_low and share_high, each a list with one row an actual class and one column a predicted class. What is undefined is None.
        Of several seeds also num_seeds, and NAME_seed_share for each of METRICS: the part of its variance that is the seeds'.

    Raises:
        DataError: All images are of one group.
    """
    names, labels = predictions.class_names, predictions.labels
    absent = [name for c, name in enumerate(names) if c not in labels]
    if absent:
        logger.warning("no test image is of class %s: it has no recall, F1 and AUROC, and means leave it out", ", ".join(absent))
    codes, num_groups = group_codes(predictions.groups)
    if num_groups < MIN_GROUPS:
        logger.warning(
            "an interval needs test images of at least %d groups (patients), got %d: it is everything that is possible",
            MIN_GROUPS,
            num_groups,
        )
    runs, folds = seeds_of(predictions), folds_of_groups(predictions)
    of_seeds = [scores(run, codes, num_groups) for run in runs]
    found = {name: np.stack([one[name] for one in of_seeds]) for name in of_seeds[0]}  # (num_seeds, 1 + num_groups, ...)
    supports = _supports(labels, codes, num_groups, len(names))
    result: dict[str, Any] = {}
    for name in METRICS:
        result |= _with_ends(name, found[name], supports[name], folds)
        if len(runs) > 1:
            result[f"{name}_seed_share"] = _number(Spread.of(found[name], folds).seed_share)
    return result | {
        "num_images": len(predictions),
        "num_groups": num_groups,
        **({"num_seeds": len(runs)} if len(runs) > 1 else {}),
        "per_class": {name: _class_metrics(predictions, c, found, codes, folds) for c, name in enumerate(names)},
        "confusion": _confusion(predictions, found["confusion"], codes, folds),
    }


def _interval(name: str, values: np.ndarray, support: Support, folds: np.ndarray) -> Interval:
    """Return the interval of a metric; `values`: of each seed on all images, then without each group (num_seeds, 1 + num_groups)."""
    mean, largest = values.mean(axis=0), LARGEST.get(name, 1.0)
    ends = _interval_of_mean(name, mean, support)
    if len(values) == 1 or ends[0] is None:
        return ends
    low, high = Spread.of(values, folds).widen(mean[0], *ends, largest=largest)
    return float(low), float(high)


def _interval_of_mean(name: str, values: np.ndarray, support: Support) -> Interval:
    """Return the interval for given networks; `values`: on all images, then without each group."""
    estimate, variance = values[0], jackknife(values[1:])
    if name not in LARGEST or (variance == 0 and np.isfinite(LARGEST[name])):
        scale = LARGEST.get(name, 1)
        low, high = share_interval(estimate / scale, variance / scale**2, support)
        return (None, None) if low is None or high is None else (low * scale, high * scale)
    return value_interval(estimate, variance, support, largest=LARGEST[name])


def _supports(labels: np.ndarray, codes: np.ndarray, num_groups: int, num_classes: int) -> dict[str, Support]:
    """Return what each metric of a run rests on: means over classes on the class with the least.

    A group that is all wrong costs a mean of k recalls 1 / k of what it costs its own class, and a mean of k AUROCs twice that, since its
    images are negatives of the other classes too.
    """
    sizes = np.stack([np.bincount(codes[labels == c], minlength=num_groups) for c in range(num_classes)])
    present = sizes[sizes.any(axis=1)]
    recalls = min((Support.of(own, len(present)) for own in present), key=_evidence)
    rest = present.sum(axis=0) - present
    aurocs = min((Support.of_pairs(*pair, max(1.0, len(present) / 2)) for pair in zip(present, rest, strict=True)), key=_evidence)
    means = {"balanced_accuracy": recalls, "macro_f1": recalls, "auroc": aurocs}
    return dict.fromkeys(METRICS, Support.of(present.sum(axis=0))) | means


def _evidence(support: Support) -> tuple[float, float, float]:
    return support.effective, support.degrees, support.most_trials


def _class_metrics(
    predictions: Predictions, c: int, found: dict[str, np.ndarray], codes: np.ndarray, folds: np.ndarray
) -> dict[str, float | int | None]:
    """Return precision, recall, F1 and AUROC of class `c`, each with its interval."""
    actual, num_groups, runs = predictions.labels == c, len(folds), seeds_of(predictions)
    sizes, others = (np.bincount(codes[rows], minlength=num_groups) for rows in (actual, ~actual))
    of_said = np.mean([np.bincount(codes[run.predicted == c], minlength=num_groups) for run in runs], axis=0)
    support = Support.of(sizes)
    supports = {"recall": support, "precision": Support.of(of_said), "f1": support, "auroc": Support.of_pairs(sizes, others)}
    result: dict[str, float | int | None] = {}
    for name in CLASS_METRICS:
        result |= _with_ends(name, found[f"class_{name}"][..., c], supports[name], folds)
    return result | {"num_images": int(actual.sum())}


def _confusion(predictions: Predictions, shares: np.ndarray, codes: np.ndarray, folds: np.ndarray) -> dict[str, list[Any]]:
    """Return the confusion matrix: counts, and the share of each row with its interval; `shares`: (num_seeds, 1 + num_groups, k, k)."""
    k, runs = len(predictions.class_names), seeds_of(predictions)
    ends = np.empty((2, k, k), object)
    for c in range(k):
        support = Support.of(np.bincount(codes[predictions.labels == c], minlength=len(folds)))
        for other in range(k):
            ends[:, c, other] = _interval("share", shares[..., c, other], support, folds)
    return {
        "counts": sum(confusion_matrix(run.labels, run.predicted, labels=np.arange(k)) for run in runs).tolist(),
        "share": [[_number(value) for value in row] for row in shares[:, 0].mean(axis=0)],
        "share_low": [[_number(value) for value in row] for row in ends[0]],
        "share_high": [[_number(value) for value in row] for row in ends[1]],
    }


def _with_ends(name: str, values: np.ndarray, support: Support, folds: np.ndarray) -> dict[str, float | None]:
    low, high = _interval(name, values, support, folds)
    return {name: _number(values[:, 0].mean()), f"{name}_low": _number(low), f"{name}_high": _number(high)}


def _number(value: float | None) -> float | None:
    """Return a plain float, None for what is undefined or without bound, since JSON knows neither NaN nor infinity."""
    return None if value is None or not np.isfinite(value) else float(value)
