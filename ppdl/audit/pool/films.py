"""Films as their integer features, and the sums over them that a key holder opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ppdl.errors import DataError

_FLOOR = 1e-10  # of the largest eigenvalue: a film outside of what the summed ones span gets a large leverage, and no infinite one


@dataclass(frozen=True, eq=False)
class Films:
    """Hold films as an attacker knows them.

    Attributes:
        features: integers (num_films, num_features).
        labels: int (num_films,).
        groups: patient of each film, int (num_films,): intervals count films of one patient together.

    Raises: DataError when there is no film, or a part has another length or type.
    """

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.features)
        if self.features.ndim != 2 or not n or self.features.dtype.kind not in "iu":
            found = f"{self.features.dtype} {self.features.shape}"
            raise DataError(f"features must be integers (num_films, num_features) of at least one film, got {found}")
        for name in ("labels", "groups"):
            values = getattr(self, name)
            if values.shape != (n,) or values.dtype.kind not in "iu":
                raise DataError(f"{name} must be integers ({n},), one a film, got {values.dtype} {values.shape}")
        if self.labels.min() < 0:
            raise DataError(f"labels must be at least 0, got {self.labels.min()}")

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Any) -> Films:
        return Films(self.features[rows], self.labels[rows], self.groups[rows])

    def __add__(self, other: Films) -> Films:
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("features", "labels", "groups"))
        return Films(*map(np.concatenate, pairs))

    def design(self, num_classes: int) -> np.ndarray:
        """Return z = (1 at the class, features) of each film, of which a total holds the sum of z z': float64 (num_films, num_classes +
        num_features)."""
        if self.labels.max() >= num_classes:
            raise DataError(f"labels must be below {num_classes}, the number of classes, got {self.labels.max()}")
        return np.concatenate([np.eye(num_classes)[self.labels], self.features.astype(np.float64)], axis=1)


def second_moments(rows: np.ndarray) -> np.ndarray:
    """Return the sum of z z' over rows (num_films, size): float64 (size, size), exact while it is below 2^53.

    With the rows of `Films.design` this is a total, as a hospital has it or the key holder opens it: counts of classes on the diagonal,
    then the sums of features by class, then those of their products. Totals add up and subtract as arrays.
    """
    return rows.T @ rows


def num_classes_of(total: np.ndarray, candidates: Films) -> int:
    """Return the number of classes of a total over features like those of the candidates."""
    return len(total) - candidates.features.shape[1]


def whitener(moments: np.ndarray) -> np.ndarray:
    """Return W with W W' = the inverse of a sum of z z', so that rows @ W have these as second moments no longer: float64, square.

    Directions that no summed film has are kept, and made as long as numbers allow.
    """
    scale = np.sqrt(np.diagonal(moments))
    scale = np.where(scale > 0, scale, 1)
    values, vectors = np.linalg.eigh(moments / scale[:, None] / scale)
    return vectors / np.sqrt(np.maximum(values, _FLOOR * values[-1])) / scale[:, None]
