"""Confidence intervals from test images that come in groups.

Groups, not images, are the witnesses: images of one patient share what makes them easy or hard. So the error of every metric is that of
the jackknife over groups, the metric being computed once without each of them. What the error becomes depends on the metric:

- A share (accuracy, recall, F1, AUROC) gets Clopper and Pearson's exact bounds for as many independent trials
  as would have that error (Korn and Graubard). These stay in [0, 1], are wide on the side that has room, and keep their promise near 0
  and 1, where percentiles of a bootstrap do not.
- A mean of other numbers gets Student's bounds, cut to what is possible.

Groups of unequal size are fewer witnesses than they are groups. `Support` counts how many groups of equal size they are worth (Kish), and
how many the jackknife's own error is worth (Satterthwaite, for groups whose images agree; Carter, Schnepel and Steigerwald). The first
bounds the number of trials, the second gives Student's degrees of freedom.

Where no group differs from the others the jackknife sees no error. Then the bound is the one that no event in so many groups leaves,
1 - 0.025^(1/groups), and no interval of a share ends nearer to 0 or 1.
From fewer than `MIN_GROUPS` groups the interval is everything that is possible.

What such an interval says: how much the figure may move with other test images *for these trained networks*. What another training seed
would change is added by `seeds`. How often intervals hold the truth is measured by `benchmarks/coverage.py` (docs/trust.md).

Source: Korn and Graubard, Survey Methodology 24 (1998) 193, for shares; Clopper and Pearson, Biometrika 26 (1934) 404; Kish, Survey
    Sampling (1965), section 8.2; Carter, Schnepel and Steigerwald, Rev. Econ. Stat. 99 (2017) 698; Efron and Stein, Ann. Stat. 9 (1981)
    586, on the jackknife's error, which is too large rather than too small.
"""

from dataclasses import astuple, dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from ppdl.errors import DataError

CONFIDENCE = 0.95
MIN_GROUPS = 5

Interval = tuple[float | None, float | None]
_TAIL = (1 - CONFIDENCE) / 2


def group_codes(groups: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the groups from 0: ((num_images,) codes, num_groups).

    Raises:
        DataError: All images are of one group, from which no spread can be learnt.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    num_groups = int(codes.max()) + 1
    if num_groups < 2:
        raise DataError(f"an interval needs test images of at least 2 groups, got {len(codes)} images of one group")
    return codes, num_groups


def group_sums(values: np.ndarray, codes: np.ndarray, num_groups: int) -> np.ndarray:
    """Add up the rows of `values` (num_images, num_values) by group: (num_groups, num_values) float64."""
    sums = np.zeros((num_groups, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


@dataclass(frozen=True)
class Support:
    """Say how much evidence some groups are: numbers, or arrays for many sets of groups.

    Attributes:
        num_groups: groups that have an image.
        effective: groups of equal size that they are worth, (sum n)^2 / sum n^2.
        degrees: the same of their squares, minus 1: the degrees of freedom of an error that was estimated from them.
        most_trials: independent trials that they can stand for at most. Equal groups: as many as images. The less equal they are the nearer
            to `effective`, since a few large groups, all right by luck, hide that images of a group agree.
    """

    num_groups: Any
    effective: Any
    degrees: Any
    most_trials: Any

    @classmethod
    def of(cls, sizes: np.ndarray, factor: float = 1.0) -> Self:
        """Count the evidence of groups of `sizes` images, (..., num_groups), of which some may be 0.

        Args:
            factor: what the groups count more than once; for a mean over classes, of which each group is about one alone.
        """
        n = np.asarray(sizes, np.float64)
        num_groups, total, squares = (n > 0).sum(axis=-1), n.sum(axis=-1), (n**2).sum(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is the NaN of no group
            effective, degrees = total**2 / squares, factor * squares**2 / (n**4).sum(axis=-1) - 1
            most_trials = factor * effective * np.maximum(1.0, total / num_groups * effective / num_groups)
        return cls(num_groups, factor * effective, degrees, most_trials)

    @classmethod
    def of_pairs(cls, positive: np.ndarray, negative: np.ndarray, factor: float = 1.0) -> Self:
        """Count the evidence for an AUROC: that of the side with less. A rank among the others tells more than right or wrong does."""
        sides = [cls.of(sizes, factor) for sizes in (positive, negative)]
        less = np.argmin([side.effective for side in sides], axis=0)
        found = cls(*(np.choose(less, pair) for pair in zip(*map(astuple, sides), strict=True)))
        return replace(found, most_trials=2 * found.most_trials)

    @property
    def least_width(self) -> Any:
        """Return how large a share of the groups may be affected when none was: the upper bound of 0 of `effective`."""
        return 1 - _TAIL ** (1 / self.effective)


def jackknife(without: np.ndarray, other: np.ndarray | None = None) -> Any:
    """Return the variance of a metric, or the covariance of two, from their values without each group, (..., num_groups)."""
    first = without - without.mean(axis=-1, keepdims=True)
    second = first if other is None else other - other.mean(axis=-1, keepdims=True)
    return (without.shape[-1] - 1) / without.shape[-1] * (first * second).sum(axis=-1)


def share_interval(estimate: float, variance: float, support: Support) -> Interval:
    """Return the 95 % interval of what lies between 0 and 1: (None, None) where undefined, (0, 1) from fewer than MIN_GROUPS groups."""
    if np.isnan(estimate) or not support.num_groups:
        return None, None
    low, high = share_ends(estimate, variance, support)
    return float(low), float(high)


def share_ends(estimate: Any, variance: Any, support: Support) -> tuple[np.ndarray, np.ndarray]:
    """Do what `share_interval` does, for many shares at once that are defined."""
    estimate = np.clip(np.round(estimate, 12), 0, 1)  # 1 - 1e-16 is a share without an error
    with np.errstate(invalid="ignore", divide="ignore"):
        inflated = variance * (_student(support) / ndtri(1 - _TAIL)) ** 2
        trials = np.where(
            (estimate > 0) & (estimate < 1) & (variance > 0),
            np.minimum(estimate * (1 - estimate) / inflated, support.most_trials),
            support.effective,
        )
    hits, misses = trials * estimate, trials * (1 - estimate)
    low = np.where(hits > 0, betaincinv(hits, misses + 1, _TAIL), 0.0)
    high = np.where(misses > 0, betaincinv(hits + 1, misses, 1 - _TAIL), 1.0)
    few = np.less(support.num_groups, MIN_GROUPS)
    low = np.minimum(np.minimum(low, estimate), 1 - support.least_width)
    high = np.maximum(np.maximum(high, estimate), support.least_width)
    return np.where(few, 0.0, low), np.where(few, 1.0, high)


def value_interval(estimate: float, variance: float, support: Support, *, least: float = 0.0, largest: float) -> tuple[float, float]:
    """Return the 95 % interval of a mean of numbers from `least` to `largest`: all of that from fewer than MIN_GROUPS groups."""
    half = _student(support) * np.sqrt(variance) if support.num_groups >= MIN_GROUPS else np.inf
    return max(float(estimate - half), least), min(float(estimate + half), largest)


def difference_ends(won: np.ndarray, lost: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of the share of images won minus that of images lost, of groups with `sizes` images.

    Both shares get their interval, and the distances from the shares to the ends are added as errors are, with the jackknife's correlation
    where that is negative. A positive one, of patients with an image won for one lost, would let the errors cancel: ten such patients
    do not show that the eleventh loses nothing. So where no group lost, the lower end lies at least as far below the difference as 0 of so
    many groups leaves. From fewer than MIN_GROUPS groups the interval is (-1, 1).

    Args:
        won, lost, sizes: (..., num_groups); ... may be many sets of images.

    Source: Zou and Donner, Stat. Med. 27 (2008) 1693, on the recovery of variances (MOVER); Newcombe, Stat. Med. 17 (1998) 2635, method 10,
        for paired shares.
    """
    support, num_images = Support.of(sizes), sizes.sum(axis=-1, keepdims=True)
    left = [(of.sum(axis=-1, keepdims=True) - of) / (num_images - sizes) for of in (won, lost)]
    variances = [jackknife(of) for of in left]
    wins, losses = (of.sum(axis=-1) / num_images[..., 0] for of in (won, lost))
    win_low, win_high = share_ends(wins, variances[0], support)
    loss_low, loss_high = share_ends(losses, variances[1], support)
    spread = np.sqrt(variances[0] * variances[1])
    correlation = np.minimum(np.divide(jackknife(*left), spread, out=np.zeros_like(spread), where=spread > 0), 0)
    few, difference = np.less(support.num_groups, MIN_GROUPS), wins - losses
    low = difference - _joined(wins - win_low, loss_high - losses, correlation)
    high = difference + _joined(win_high - wins, losses - loss_low, correlation)
    return np.where(few, -1.0, np.maximum(low, -1)), np.where(few, 1.0, np.minimum(high, 1))


def _joined(one: np.ndarray, other: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(one**2 + other**2 - 2 * correlation * one * other, 0))


def _student(support: Support) -> Any:
    """Return how many standard errors away the ends are. Half a degree of freedom is the least: there it is 70 errors."""
    return stdtrit(np.maximum(support.degrees, 0.5), 1 - _TAIL)
