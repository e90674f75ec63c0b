"""What a run with differential privacy promises, and how much noise that takes. OpenDP draws the noise and counts the budget.

Two sets of films are neighbours where the films of one group (a patient, with near duplicates) count in one of them and not in the other;
how many films each hospital declares is public and the same. For one group exchanged for another, epsilon is that of twice the distance.

Source: concentrated differential privacy: M. Bun, T. Steinke, "Concentrated Differential Privacy", TCC 2016; from it to epsilon and delta,
    and the exact sampler: C. Canonne, G. Kamath, T. Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020; sums of
    discrete Gaussians: P. Kairouz, Z. Liu, T. Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
    Aggregation", ICML 2021, proposition 14.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ppdl.errors import ConfigError, install_extra
from ppdl.records.typecheck import Count, Positive, Share, Whole

MOST_FEATURES = 64  # more were not measured: beside the mean square of a feature, the radius of the noise grows as their number to the 1.5
TAIL = 16.0  # standard deviations; a draw outside of them is moved to their end
_LEAST_SCALE = 0.5  # of proposition 14
_STEPS = 1024  # of the multiplier, a unit: rounded up, so that it is the same number on all machines
_LARGEST = 2.0**20


@dataclass(frozen=True)
class Privacy:
    """Say what the total of a run promises to each patient.

    Args:
        epsilon: Of the total, against the key holder and `colluders` hospitals that tell him their films and noise.
        delta: Probability that epsilon does not bound.
        colluders: Hospitals whose noise does not count: who tell it to the key holder, or drop out. At most all but one. All but one: each
            hospital's own sums keep the promise.
        films_per_patient: Films of a patient that count; the hospital leaves others out.
        clip: Bound of a film's features about the middle of their range, root mean square, as a share of half the range: 0.125 is one
            standard deviation of public films. A longer vector is shortened.
    """

    epsilon: Positive
    delta: Share
    colluders: Whole
    films_per_patient: Count
    clip: Positive


Weights = tuple[tuple[float, int], ...]  # of sums, each with how many have it: the noise of a sum has the deviation multiplier / weight


@cache
def noise_multiplier(privacy: Privacy, num_hospitals: int, weights: Weights) -> float:
    """Return the least multiplier that keeps the promise, where one group changes the weighted sums by 1 at most.

    Raises:
        ConfigError: as many colluders as hospitals, or no noise keeps the promise.
    """
    if privacy.colluders >= num_hospitals:
        raise ConfigError(
            f"privacy.colluders must be below the number of hospitals, {num_hospitals}, for somebody's noise must count; "
            f"got {privacy.colluders}"
        )
    # a draw that is moved counts against delta: P(|Z| >= t) <= 2 exp(-t^2 / 2) at a deviation of 1, Canonne et al. 2020
    draws = num_hospitals * sum(count for _, count in weights)
    moved = (1 + math.exp(min(privacy.epsilon, 700))) * 2 * draws * math.exp(-(TAIL**2) / 2)
    low, high = 0, int(_LARGEST * _STEPS)
    while moved < privacy.delta and high - low > 1:
        middle = (low + high) // 2
        rho = budget(middle / _STEPS, num_hospitals - privacy.colluders, weights)
        low, high = (low, middle) if spent_epsilon(rho, privacy.delta - moved) <= privacy.epsilon else (middle, high)
    if high == _LARGEST * _STEPS:
        raise ConfigError(f"no noise keeps privacy.epsilon {privacy.epsilon:g} at privacy.delta {privacy.delta:g}: raise delta")
    return high / _STEPS


def budget(multiplier: float, num_honest: int, weights: Weights) -> float:
    """Return rho of zero-concentrated differential privacy of `num_honest` draws a sum; infinite where no bound is known."""
    own = [(multiplier / weight / math.sqrt(num_honest), count) for weight, count in weights]
    if num_honest > 1 and min(scale for scale, _ in own) < _LEAST_SCALE:
        return math.inf
    # a sum of discrete Gaussians is none: tau bounds the logarithm of what they differ by
    tau = sum(10 * count * sum(math.exp(-2 * math.pi**2 * scale**2 * k / (k + 1)) for k in range(1, num_honest)) for scale, count in own)
    return 1 / (2 * multiplier**2) + tau  # the divergence of order alpha is at most alpha / (2 multiplier^2) + tau, and alpha >= 1


@cache
def spent_epsilon(rho: float, delta: float) -> float:
    """Return the epsilon at `delta` of rho-zero-concentrated differential privacy."""
    if math.isinf(rho):
        return math.inf
    dp = opendp()
    measurement = dp.m.make_gaussian(*_space(dp), scale=1 / math.sqrt(2 * rho))
    return float(dp.c.make_zCDP_to_approxDP(measurement).map(1.0).epsilon(delta))


def discrete_gaussian(scales: np.ndarray) -> np.ndarray:
    """Draw an integer of a discrete Gaussian about 0 for each scale (num_values,): int64. OpenDP's sampler is exact, and cryptographic."""
    dp, drawn = opendp(), np.empty(len(scales), np.int64)
    for scale in np.unique(scales):
        where = np.flatnonzero(scales == scale)
        drawn[where] = dp.m.make_gaussian(*_space(dp), scale=float(scale))([0] * len(where))
    return drawn


def opendp() -> Any:
    """Import OpenDP. Raises: ConfigError where it is not installed."""
    try:
        import opendp.prelude as dp
    except ImportError:
        raise ConfigError(f"noise for pooled sums needs OpenDP: {install_extra('privacy')}") from None
    dp.enable_features("contrib")
    return dp


def _space(dp: Any) -> tuple[Any, Any]:
    return dp.vector_domain(dp.atom_domain(T=dp.i64)), dp.l2_distance(T=float)
