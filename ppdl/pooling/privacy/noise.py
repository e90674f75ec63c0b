"""Sums with noise: films of bounded length, a hospital's draws, and what the key holder makes of the noised total.

Features x of b bits are taken about the middle, y = x - 2^(b - 1), and shortened to a length of at most C. A film then changes

    n_k    by 1               B_k    by y, of length <= C               S    by y_i y_j, i <= j

Noise of standard deviation s / w for each sum, with w^2 = 0.1 / m^2 for counts, 0.4 / (m C)^2 for sums, 0.5 / (m C^2)^2 for squares and
twice that for products of two features, makes all of them one weighted vector: a film is at most 1 / m long in it, since
sum_i y_i^4 + 2 sum_{i<j} (y_i y_j)^2 = |y|^4 <= C^4, and the m films of a patient at most 1.

Source: second moments with noise: C. Dwork, K. Talwar, A. Thakurta, L. Zhang, "Analyze Gauss", STOC 2014; regression from them with a
    strength that follows from the noise: Y.-X. Wang, "Revisiting differentially private linear regression", UAI 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ppdl.errors import ConfigError, DataError
from ppdl.pooling.privacy.promise import MOST_FEATURES, TAIL, Privacy, Weights, budget, discrete_gaussian, noise_multiplier, spent_epsilon
from ppdl.pooling.sums import Sums, sums_of

SHARES = 0.1, 0.4, 0.5  # of the budget: counts, class sums, moments. Not fitted to any films


@dataclass(frozen=True)
class Noise:
    """The noise of one run: it follows from what its terms say.

    Attributes:
        privacy: what is promised.
        num_hospitals: on the roster. num_classes, num_features, feature_bits: of what is summed.

    Raises:
        ConfigError: too many features or colluders, a bound below one step, or no noise that keeps the promise.
    """

    privacy: Privacy
    num_hospitals: int
    num_classes: int
    num_features: int
    feature_bits: int

    def __post_init__(self) -> None:
        if self.num_features > MOST_FEATURES:
            raise ConfigError(
                f"with privacy a run sums at most {MOST_FEATURES} features, got {self.num_features}: set backbone.num_features"
            )
        if self.length < 1:
            raise ConfigError(
                f"privacy.clip must leave a length of at least one of {2**self.feature_bits} steps, got {self.privacy.clip:g}"
            )
        self.multiplier  # noqa: B018 - its rules

    @property
    def middle(self) -> int:
        return 2 ** (self.feature_bits - 1)

    @property
    def length(self) -> int:
        """C, in steps of a feature."""
        return int(self.privacy.clip * self.middle * np.sqrt(self.num_features))

    @cached_property
    def film(self) -> np.ndarray:
        """The most that a film changes each sum by: float64 (num_sums,), in the order of `Sums.flat`."""
        return self._by_block(1, self.length, self.length**2, self.length**2)

    @cached_property
    def weights(self) -> np.ndarray:
        """1 / w is the noise of a sum, in multiples of `multiplier`: float64 (num_sums,)."""
        counts, sums, moments = np.sqrt(SHARES) / self.privacy.films_per_patient
        square = moments / self.length**2
        return self._by_block(counts, sums / self.length, square, square * np.sqrt(2))

    @cached_property
    def multiplier(self) -> float:
        return noise_multiplier(self.privacy, self.num_hospitals, self._weights)

    @property
    def scales(self) -> np.ndarray:
        """Standard deviation of the noise that counts in the total: float64 (num_sums,)."""
        return self.multiplier / self.weights

    @property
    def own_scales(self) -> np.ndarray:
        """Standard deviation of one hospital's noise: float64 (num_sums,)."""
        return self.scales / np.sqrt(self.num_hospitals - self.privacy.colluders)

    @property
    def epsilon_alone(self) -> float:
        """Epsilon against who opens the sums of one hospital by themselves: the key holder with the server or any hospital."""
        alone = self.multiplier / np.sqrt(self.num_hospitals - self.privacy.colluders)
        return spent_epsilon(budget(float(alone), 1, self._weights), self.privacy.delta)

    def clipped(self, features: np.ndarray) -> np.ndarray:
        """Return features (num_films, num_features) of bounded length about the middle, in the same steps: int64.

        Steps are so small that rounding towards 0 loses nothing, and the length never exceeds the bound. Rounding at random on the
        condition that it does not, as in Kairouz et al. 2021, is for grids as coarse as the values.
        """
        about = features.astype(np.int64) - self.middle
        length = np.ceil(np.sqrt((about**2).sum(axis=1, keepdims=True))).astype(np.int64)  # exact: the squares stay below 2^53
        shorter = np.sign(about) * (np.abs(about) * self.length // np.maximum(length, 1))
        return np.where(length > self.length, shorter, about) + self.middle

    def sums(self, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the sums over clipped films about the middle, without noise: int64 (num_sums,)."""
        found = sums_of(self.clipped(features), labels, num_classes=self.num_classes, feature_bits=self.feature_bits)
        return moved(found, -self.middle).flat()

    def draw(self) -> np.ndarray:
        """Draw one hospital's noise: int64 (num_sums,), within TAIL standard deviations."""
        return np.clip(discrete_gaussian(self.own_scales), -self._tails, self._tails)

    def offset(self, num_films: int, num_hospitals: int) -> np.ndarray:
        """Return what makes noised sums over so many films of so many hospitals positive, whatever is drawn: int64 (num_sums,)."""
        return num_films * self.film.astype(np.int64) + num_hospitals * self._tails

    def opened(self, noised: np.ndarray, num_films: int, num_hospitals: int) -> Sums:
        """Return the sums of x that a head is solved from, from the noised total about the middle: all of it is post-processing.

        Within the classes every eigenvalue of the scatter is at least the radius of the noise: what is below cannot be told from noise.

        Args:
            noised: int64 (num_sums,), with no offset. num_films, num_hospitals: that count in it.

        Raises:
            DataError: no films and no noise give such a total, or a class has fewer films than noise.
        """
        counts = noised[: self.num_classes]
        most = self.num_classes * num_hospitals * self._tails[0]
        if (np.abs(noised) > self.offset(num_films, num_hospitals)).any() or abs(int(counts.sum()) - num_films) > most:
            raise DataError("the opened total is of no films: it breaks the rule that no sum exceeds that of the declared films and noise")
        if (counts < 1).any():
            raise DataError("a class has fewer films in the total than noise")
        total = Sums.from_flat(noised, num_classes=self.num_classes, num_features=self.num_features, feature_bits=self.feature_bits)
        between = total.class_sums.T @ (total.class_sums / counts[:, None])
        values, vectors = np.linalg.eigh(total.gram - between)
        repaired = (vectors * np.maximum(values, self.radius(num_hospitals))) @ vectors.T + between
        moments = np.rint(repaired[np.triu_indices(self.num_features)]).astype(np.int64)
        return moved(Sums(self.feature_bits, counts, total.class_sums, moments), self.middle)

    def radius(self, num_hospitals: int) -> float:
        """Return where the largest eigenvalue of the moments' noise of so many hospitals lies: 2 sqrt(num_features) deviations of an entry
        off the diagonal (E. Wigner, "On the distribution of the roots of certain symmetric matrices", Annals of Mathematics 67, 1958)."""
        return float(np.sqrt(2 * self.num_features * num_hospitals) * self.own_scales[-1])

    @property
    def _weights(self) -> Weights:
        values, counts = np.unique(self.weights, return_counts=True)
        return tuple(zip(values.tolist(), counts.tolist(), strict=True))

    @cached_property
    def _tails(self) -> np.ndarray:
        return np.ceil(TAIL * self.own_scales).astype(np.int64)

    def _by_block(self, count: float, class_sum: float, square: float, product: float) -> np.ndarray:
        rows, columns = np.triu_indices(self.num_features)
        blocks = (
            [count] * self.num_classes,
            [class_sum] * (self.num_classes * self.num_features),
            np.where(rows == columns, square, product),
        )
        return np.concatenate(blocks).astype(np.float64)


def moved(sums: Sums, by: int) -> Sums:
    """Return the sums of x + by, from those of x."""
    counts, class_sums = sums.class_counts, sums.class_sums
    rows, columns = np.triu_indices(sums.num_features)
    both = sums.feature_sums[rows] + sums.feature_sums[columns]
    moments = sums.moments + by * both + by * by * sums.num_films
    return Sums(sums.feature_bits, counts, class_sums + by * counts[:, None], moments)


def kept_rows(groups: np.ndarray, most: int) -> np.ndarray:
    """Return which films count where at most so many of a group do, the first of each: bool (num_films,)."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0]) if len(groups) else np.empty(0, np.int64)
    rank = np.empty(len(groups), np.int64)
    rank[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))
    return rank < most
