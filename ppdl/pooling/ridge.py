"""A ridge head from sums alone.

Source: ridge regression of the classes' indicators (T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd ed.,
    sections 3.4 and 4.2); the strength by generalised cross-validation: G. H. Golub, M. Heath, G. Wahba, Technometrics 21, 1979.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ppdl.errors import DataError
from ppdl.pooling.sums import Sums
from ppdl.private_head.head import LARGEST_FEATURE, QuantisedHead, rounded_head, spread_floor

_TEMPERATURES = 0.01, 100.0


def fit_ridge(
    total: Sums, strengths: Sequence[float], *, class_names: Sequence[str], backbone: Mapping[str, Any]
) -> tuple[QuantisedHead, float]:
    """Solve for a head on 8-bit features in [0, 1], rounded to integers, with the temperature that the total implies.

    Args:
        total: sums over all films.
        strengths: of the regularisation, of standardised features; that with the least generalised cross-validation is taken.

    Returns:
        The head, and the strength. A head tells something of who is in the total, in int8 as well; the strength helps to find it out.

    Raises:
        DataError: a class has no film.

    Cost: an eigendecomposition: 0.01 s for 128 features, 1 s for 1,152.
    """
    if not total.class_counts.all():
        raise DataError("a class has no film in the total")
    weights, bias, strength = solve(total, strengths)
    step = (2**total.feature_bits - 1) / LARGEST_FEATURE  # of an 8-bit feature, in steps of the summed ones
    head = rounded_head(weights * step, bias, feature_scale=1 / LARGEST_FEATURE, class_names=class_names, backbone=backbone)
    return replace(head, temperature=temperature(total, weights)), strength


def temperature(total: Sums, weights: np.ndarray) -> float:
    """Return what scores are divided by to become logits, from the total alone, to two digits: the scale of the logits tells more.

    With scores that are normal within each class, of one covariance, the log-odds of two classes are the difference of their scores times
    the gap between the classes' means of that difference over its variance: the mean of these slopes over all pairs is 1 / temperature.
    1 where no pair has a slope.

    Source: linear discriminant analysis: Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2nd ed., section 4.3.
    """
    counts = total.class_counts[:, None]
    means = total.class_sums / counts
    scores = means @ weights.T  # (class of the films, class of the score), up to the biases, which cancel
    within = weights @ ((total.gram - total.class_sums.T @ means) / total.num_films) @ weights.T
    slopes = []
    for i, j in itertools.combinations(range(total.num_classes), 2):
        gap = (scores[i, i] - scores[i, j]) - (scores[j, i] - scores[j, j])
        spread = within[i, i] + within[j, j] - 2 * within[i, j]
        slopes += [gap / spread] if gap > 0 and spread > 0 else []
    return float(f"{np.clip(1 / np.mean(slopes), *_TEMPERATURES):.2g}") if slopes else 1.0


def solve(total: Sums, strengths: Sequence[float]) -> tuple[np.ndarray, np.ndarray, float]:
    """Return weights (num_classes, num_features) and biases (num_classes,) on the summed integers, and the strength that was taken."""
    n = total.num_films
    mean, shares = total.feature_sums / n, total.class_counts / n
    covariance = total.gram / n - np.outer(mean, mean)
    spread = np.sqrt(np.maximum(np.diagonal(covariance), 0))
    spread = np.maximum(spread, spread_floor(spread))
    values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
    values = np.maximum(values, 0)
    # correlations of the indicators with the eigenvectors: (num_features, num_classes)
    along = vectors.T @ ((total.class_sums.T / n - np.outer(mean, shares)) / spread[:, None])
    variance = float((shares * (1 - shares)).sum())

    def generalised(strength: float) -> float:
        shrunk = along**2 / (values + strength)[:, None]
        left = variance - 2 * shrunk.sum() + (shrunk * (values / (values + strength))[:, None]).sum()
        used = 1 + (values / (values + strength)).sum()  # effective parameters, the constant among them
        return float("inf") if used >= n else left / (1 - used / n) ** 2

    strength = min(strengths, key=generalised)
    weights = ((vectors @ (along / (values + strength)[:, None])) / spread[:, None]).T
    return weights, shares - weights @ mean, strength
