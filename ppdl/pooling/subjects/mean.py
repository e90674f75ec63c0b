"""The mean of hospitals' vectors, weighted by their films: a round's update of the weights, or what enters each BatchNorm layer.

Of values v in [-r, r] hospital h of n_h films, where the largest of the roster has n, encrypts

    rint(v / r * n_h / n * L) + L        L = 2^(bits - 1) - 1; what lies outside of the range counts as its end
    n_h                                  last: the weight is in the sum

so nothing is below 0, and k hospitals' sum S is at most 2 L k. Their mean is (S - k L) r n / (L sum n_h), and rounding moves it by
at most k / 2 steps of r n / (L sum n_h).

Source: averages weighted by numbers of examples: H. B. McMahan et al., "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", AISTATS 2017; fixed-point values with room for carries, packed into Paillier plaintexts: L. T. Phong et al.,
    "Privacy-Preserving Deep Learning via Additively Homomorphic Encryption", IEEE TIFS 13(5), 2018.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ppdl.errors import ConfigError, DataError
from ppdl.pooling.subjects.base import Films, Subject, films_of


@dataclass(frozen=True)
class MeanSums(Subject):
    """Average vectors. A hospital brings its own, float64 (num_values,).

    Attributes:
        what: that they are, and of which round. start_sha256: of the weights that they start from.
        bits: of a hospital's integer.
        ranges: (number of values, r), block by block.

    Raises:
        ConfigError: a range or a number of bits that nothing fits into.
    """

    what: str
    start_sha256: str
    bits: int
    ranges: Sequence[Sequence[float]]

    kind = "mean"

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 32:
            raise ConfigError(f"bits of a value must be 2 to 32, got {self.bits}")
        if not self.ranges or any(count < 1 or not 0 < largest < np.inf for count, largest in self.ranges):
            raise ConfigError(f"ranges of the {self.what} must be above 0 and finite, got {list(self.ranges)}")

    @property
    def num_values(self) -> int:
        return int(sum(count for count, _ in self.ranges))

    @property
    def num_sums(self) -> int:
        return self.num_values + 1

    @property
    def largest(self) -> int:
        """L."""
        return (1 << (self.bits - 1)) - 1

    def slot_bits(self, films: Films) -> int:
        return max(2 * self.largest * len(films), films_of(films, films)).bit_length()

    def integers(self, name: str, brought: np.ndarray, films: Films) -> np.ndarray:
        share = self._shares(name, brought) * (films[name] / max(films.values()) * self.largest)
        return np.append(np.rint(share).astype(np.int64) + self.largest, films[name])

    def total(self, opened: np.ndarray, films: Films, came: Collection[str]) -> np.ndarray:
        """Return the mean, float64 (num_values,)."""
        signed, num_films, n = opened[:-1] - len(came) * self.largest, films_of(films, came), max(films.values())
        if opened[-1] != num_films or np.abs(signed).max() > sum(round(films[name] / n * self.largest) for name in came):
            raise DataError("the opened total is of no films: it breaks the rule that no value exceeds those of the declared films")
        return signed * (self._range * n / (self.largest * num_films))

    def clear_mean(self, brought: Mapping[str, np.ndarray], films: Films) -> np.ndarray:
        """Return the mean of hospitals' values before rounding, those outside of the range as its end: float64 (num_values,)."""
        weighted = [self._shares(name, values) * films[name] for name, values in brought.items()]
        return np.sum(weighted, axis=0) * self._range / films_of(films, brought)

    def rounding(self, films: Films, came: Collection[str]) -> np.ndarray:
        """Return the most that rounding moves the mean by: float64 (num_values,)."""
        return self._range * (len(came) * max(films.values()) / (2 * self.largest * films_of(films, came)))

    def clipped(self, brought: Mapping[str, np.ndarray]) -> float:
        """Return the share of all hospitals' values that lie outside of the range."""
        return float(np.mean([np.abs(values) > self._range for values in brought.values()]))

    def _shares(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.shape != (self.num_values,) or not np.isfinite(values).all():
            raise DataError(f"{name} must bring {self.num_values} finite values as {self.what}, got {values.shape}, or one that is none")
        return np.clip(values / self._range, -1.0, 1.0)

    @property
    def _range(self) -> np.ndarray:
        return np.repeat([float(largest) for _, largest in self.ranges], [int(count) for count, _ in self.ranges])
