"""Sums over films from which a linear head follows: they add up over hospitals, and no film is needed beside them.

Features are integers x of `feature_bits` bits, b. Over n films of K classes and d features the sums are, in this order,

    n_k          films of each class                     (K,)
    B_k          sum of x over the films of each class   (K, d)
    S            sum of x_i x_j, i <= j, row by row      (d (d + 1) / 2,)

No sum exceeds n (2^b - 1)^2. The sum of x over all films is that of B_k over the classes.

Source: the normal equations, of which V. Nikolaenko et al., "Privacy-Preserving Ridge Regression on Hundreds of Millions of Records", IEEE
    S&P 2013, section 3, and I. Giacomelli et al., "Privacy-Preserving Ridge Regression with only Linearly-Homomorphic Encryption", ACNS
    2018, add up the encrypted parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ppdl.errors import DataError

_EXACT = 2**53  # integers up to here are exact in float64, which BLAS multiplies fast
_TOLERANCE = 1e-9  # of the largest eigenvalue: below it a negative one is rounding


@dataclass(frozen=True, eq=False)
class Sums:
    """Hold the sums over some films.

    Attributes:
        feature_bits: bits of a feature.
        class_counts: int64 (num_classes,).
        class_sums: int64 (num_classes, num_features).
        moments: int64 (num_features (num_features + 1) / 2,), the upper triangle of the Gram matrix, row by row.
    """

    feature_bits: int
    class_counts: np.ndarray
    class_sums: np.ndarray
    moments: np.ndarray

    @property
    def num_classes(self) -> int:
        return len(self.class_counts)

    @property
    def num_features(self) -> int:
        return int(self.class_sums.shape[1])

    @property
    def num_films(self) -> int:
        return int(self.class_counts.sum())

    @property
    def feature_sums(self) -> np.ndarray:
        """Sum of the features over all films: int64 (num_features,)."""
        return self.class_sums.sum(axis=0)

    @property
    def gram(self) -> np.ndarray:
        """Sum of x x' over all films: int64 (num_features, num_features)."""
        d = self.num_features
        full = np.zeros((d, d), np.int64)
        full[np.triu_indices(d)] = self.moments
        return full + np.triu(full, 1).T

    def flat(self) -> np.ndarray:
        """Return all sums side by side, as they are packed: int64 (num_sums(num_classes, num_features),)."""
        return np.concatenate([self.class_counts, self.class_sums.ravel(), self.moments])

    @classmethod
    def from_flat(cls, flat: np.ndarray, *, num_classes: int, num_features: int, feature_bits: int) -> Sums:
        """Return the sums that `flat` laid side by side."""
        ends = num_classes, num_classes * (1 + num_features)
        return cls(feature_bits, flat[: ends[0]], flat[ends[0] : ends[1]].reshape(num_classes, num_features), flat[ends[1] :])

    def __add__(self, other: Sums) -> Sums:
        return self._combined(other, 1)

    def __sub__(self, other: Sums) -> Sums:
        return self._combined(other, -1)

    def _combined(self, other: Sums, sign: int) -> Sums:
        flat = self.flat() + sign * other.flat()
        return Sums.from_flat(flat, num_classes=self.num_classes, num_features=self.num_features, feature_bits=self.feature_bits)


def num_sums(num_classes: int, num_features: int) -> int:
    """Count the sums that a hospital encrypts."""
    return num_classes * (1 + num_features) + num_features * (num_features + 1) // 2


def slot_bits(num_films: int, feature_bits: int) -> int:
    """Return the bits that no sum over `num_films` films exceeds."""
    return (num_films * (2**feature_bits - 1) ** 2).bit_length()


def integer_features(features: np.ndarray, feature_bits: int) -> np.ndarray:
    """Return features in [0, 1] as integers from 0 to 2^feature_bits - 1, the nearest: int64, of the same shape.

    Raises: DataError when one is not in [0, 1].
    """
    if not (features >= 0).all() or not (features <= 1).all():
        raise DataError("features must lie in [0, 1], and one does not: the backbone is none that ends in a public scale, or is damaged")
    return np.rint(features.astype(np.float64) * (2**feature_bits - 1)).astype(np.int64)


def sums_of(features: np.ndarray, labels: np.ndarray, *, num_classes: int, feature_bits: int) -> Sums:
    """Return the sums over films.

    Args:
        features: integers (num_films, num_features) of feature_bits bits.
        labels: (num_films,) integers below num_classes.

    Raises:
        DataError: there is no film, or a feature or a label is out of range.

    Cost: one matrix product; 1,200 films of 1,152 features take 0.1 s.
    """
    if features.ndim != 2 or not len(features) or features.shape[0] != len(labels) or features.dtype.kind not in "iu":
        raise DataError(f"features must be integers (num_films, num_features) of at least one film, got {features.dtype} {features.shape}")
    largest = 2**feature_bits - 1
    if features.min() < 0 or features.max() > largest:
        raise DataError(f"features must lie between 0 and {largest}, got {features.min()} to {features.max()}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"labels must lie in [0, {num_classes}), got {labels.min()} to {labels.max()}")
    d = features.shape[1]
    gram, step = np.zeros((d, d), np.int64), max(1, _EXACT // largest**2)
    for start in range(0, len(features), step):
        part = features[start : start + step].astype(np.float64)
        gram += (part.T @ part).astype(np.int64)
    class_sums = np.zeros((num_classes, d), np.int64)
    np.add.at(class_sums, labels, features.astype(np.int64))
    return Sums(feature_bits, np.bincount(labels, minlength=num_classes).astype(np.int64), class_sums, gram[np.triu_indices(d)])


def check_total(total: Sums, num_films: int) -> None:
    """Refuse a total that no films have: what wrap-around, damage and honest mistakes leave.

    A hospital that invents films, or takes known ones out of the total, passes: only range proofs would catch it (RoFL, Lycklama et al.,
    IEEE S&P 2023; ACORN, Bell et al., USENIX Security 2023; EIFFeL, Roy Chowdhury et al., CCS 2022), and none is built here.

    Args:
        num_films: declared by all whose sums are in the total.

    Raises:
        DataError: names the rule, and no value of the total.
    """
    largest, n, m, gram = 2**total.feature_bits - 1, total.num_films, total.feature_sums, total.gram
    squares = np.diagonal(gram)
    rules = {
        f"the films of all classes add up to the {num_films} that were declared": n == num_films and (total.class_counts >= 0).all(),
        "no class sum exceeds that of as many largest features": (total.class_sums <= total.class_counts[:, None] * largest).all(),
        "sums of squares are even where sums are": ((squares - m) % 2 == 0).all(),
        "sums of squares lie between those of equal and of extreme features": all(
            a * a <= n * s and s <= largest * a for a, s in zip(m.tolist(), squares.tolist(), strict=True)
        ),
        "no product exceeds the largest": (gram >= 0).all() and (gram <= n * largest**2).all(),
    }
    for rule, holds in rules.items():
        if not holds:
            raise DataError(f"the opened total is of no films: it breaks the rule that {rule}")
    counts = np.maximum(total.class_counts, 1)[:, None]
    within = gram - total.class_sums.T @ (total.class_sums / counts)
    values = np.linalg.eigvalsh(within)
    if values[0] < -_TOLERANCE * max(np.trace(gram), 1):
        raise DataError("the opened total is of no films: its Gram matrix within the classes is not positive semidefinite")
