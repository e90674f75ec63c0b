"""How well a score tells members from others: the area under the ROC curve, its interval, and the smallest that would have been seen.

The interval inverts the score test |estimate - auc| = z sqrt(V(auc)) with the variance of two exponential scores, which no estimate makes
zero, not even 1. At 0.5 this is the variance of the Mann-Whitney test, so an interval lies above 0.5 just where that test rejects. Films of
one patient are counted as if they said the same: m films become (sum of films a patient)^2 / sum of squares, the effective number of
patients, which makes intervals wider, never narrower.

Source: J. Hanley, B. McNeil, Radiology 143, 1982, for the variance; R. Newcombe, Statistics in Medicine 25, 2006, method 5, for the
    interval; L. Kish, Survey Sampling, 1965, for the effective number.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ppdl.audit.examination.verdict import CHANCE, POWER
from ppdl.errors import DataError

_CONFIDENCE = 0.95
_NEARLY = 1 - 1e-12  # the variance is zero at 1, which is a root of its own


def separation(members: np.ndarray, others: np.ndarray, member_groups: np.ndarray, other_groups: np.ndarray) -> dict[str, Any]:
    """Measure how much larger a score is for members.

    Args:
        members, others: scores, float (num,).
        member_groups, other_groups: patient of each, int (num,).

    Returns:
        auc, auc_low, auc_high (95 %), auc_least (the smallest that counts, its interval being above 0.5), auc_found (the smallest true one
        that counts with probability POWER; above 1 where nothing would), num_members, num_others.

    Raises:
        DataError: there is no member or no other, or a score is not finite.
    """
    from scipy.stats import mannwhitneyu  # a second to import, and every stage checks the attacks

    if not len(members) or not len(others):
        raise DataError(f"an attack is scored by members and others, at least one of each, got {len(members)} and {len(others)}")
    if not np.isfinite(members).all() or not np.isfinite(others).all():
        raise DataError("a score of an attack is not finite: features or head are damaged")
    area = float(mannwhitneyu(members, others, method="asymptotic").statistic) / (len(members) * len(others))
    sizes = effective_number(member_groups), effective_number(other_groups)
    low, high = auc_interval(area, *sizes)
    least, found = smallest_auc(*sizes)
    counts = {"num_members": len(members), "num_others": len(others)}
    return {"auc": area, "auc_low": low, "auc_high": high, "auc_least": least, "auc_found": found} | counts


def effective_number(groups: np.ndarray) -> float:
    """Return the number of equally large groups that say as much."""
    sizes = np.unique(groups, return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def auc_interval(area: float, num_members: float, num_others: float) -> tuple[float, float]:
    """Return the 95 % interval of an area under the ROC curve."""
    return _low(area, num_members, num_others), 1 - _low(1 - area, num_members, num_others)


def smallest_auc(num_members: float, num_others: float) -> tuple[float, float]:
    """Return the smallest area whose interval is above 0.5, and the smallest true one that gives one with probability POWER."""
    z, power = _normal((1 + _CONFIDENCE) / 2), _normal(POWER)
    least = CHANCE + z * _error(CHANCE, num_members, num_others)
    if least >= 1:
        return least, least
    return least, _root(lambda area: area - power * _error(area, num_members, num_others) - least, least, 1.0)


def _low(area: float, num_members: float, num_others: float) -> float:
    if area <= 0:
        return 0.0
    z = _normal((1 + _CONFIDENCE) / 2)
    return _root(lambda true: true + z * _error(true, num_members, num_others) - area, 0.0, area * _NEARLY)


def _error(area: float, num_members: float, num_others: float) -> float:
    """Return the standard error of an estimate when `area` is the true one."""
    more = (num_members + num_others) / 2 - 1
    spread = 1 + more * (1 - area) / (2 - area) + more * area / (1 + area)
    return float(np.sqrt(area * (1 - area) * spread / (num_members * num_others)))


def _normal(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(function, low, high))
