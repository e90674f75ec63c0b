"""Is an image like those that a network was trained on? A distance in the network's features, and a threshold with a stated rate of alarms.

The distance is that of Mahalanobis to the nearest class (Lee et al.), of the values that the last layer is fed, with one change that keeps
what is stored from telling whose images were trained on. Features are projected on a few principal directions, one for each 16 training
images and at most 64; what lies in all other directions together is one further value, the logarithm of its square. Of these values means
and covariance are taken. k nearest neighbours (Sun et al. 2022, arXiv 2204.06507) would store the features of each training image, which is
its membership in the clear.

The threshold is split conformal: of one validation image of each group, the smallest distance that an image of a new group of the same
kind exceeds with a probability of at most FALSE_ALARMS, whatever the distances' law. That probability is over validation images too: for a
given threshold the rate scatters about it, the more the fewer groups there are.

Source: K. Lee et al. 2018 (arXiv 1807.03888), section 2.1; V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World
    (2005), and S. Bates et al., Ann. Stat. 51 (2023) 149, for alarms by conformal p-values; R. Dunn, L. Wasserman, A. Ramdas, J. Am. Stat.
    Assoc. 118 (2023) 2491, for one image of each group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from ppdl.errors import DataError
from ppdl.records.atomic import replacing
from ppdl.records.reading import read_arrays

LIKENESS_NAME = "likeness.npz"
FALSE_ALARMS = 0.05
IMAGES_A_DIRECTION, MOST_DIRECTIONS = 16, 64
_LEAST_VARIANCE = 1e-6  # of the largest: below it training images do not vary
_LEAST_SQUARE = 1e-9  # of what lies outside of the directions: no logarithm of 0


@dataclass(frozen=True, eq=False)
class Likeness:
    """Hold what the features of training images are like.

    Attributes:
        directions: (num_features, k) float32, orthonormal.
        whitening: (k + 1, k + 1) float32; differences of values times it have unit covariance within classes.
        class_means: (num_classes, k + 1) float32, of values.
        threshold: (1,) float32: a larger distance is unlike the training set; infinite where there were too few groups for one.

    Raises:
        DataError: An array does not fit the others.
    """

    directions: np.ndarray
    whitening: np.ndarray
    class_means: np.ndarray
    threshold: np.ndarray

    def __post_init__(self) -> None:
        k = self.directions.shape[-1] if self.directions.ndim == 2 else -1
        shapes = {"whitening": (k + 1, k + 1), "class_means": (*self.class_means.shape[:1], k + 1), "threshold": (1,)}
        for name, shape in shapes.items():
            if k < 1 or (found := getattr(self, name).shape) != shape:
                raise DataError(
                    f"{name} must be {shape} with directions {self.directions.shape}, got {found if k > 0 else 'no directions'}"
                )
        if not all(np.isfinite(getattr(self, name)).all() for name in ("directions", "whitening", "class_means")):
            raise DataError("directions, whitening and class_means must be finite, and one is not")

    @property
    def has_threshold(self) -> bool:
        """Whether there were validation groups enough for a threshold."""
        return bool(np.isfinite(self.threshold[0]))

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Return the distance of each image's features, (num_images, num_features), to the nearest class: (num_images,) float64, from 0.

        Raises:
            DataError: Features of another number.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1] != len(self.directions):
            raise DataError(f"features must be (num_images, {len(self.directions)}), got {features.shape}")
        away = (_values(features, self.directions)[:, None] - self.class_means) @ self.whitening.astype(np.float64)
        return np.sqrt((away**2).sum(axis=2).min(axis=1))  # of (num_images, num_classes, k + 1)

    def unlike(self, features: np.ndarray) -> np.ndarray:
        """Return which images are unlike the training set: (num_images,) bool."""
        return self.distances(features) > self.threshold[0]

    def save(self, folder: Path) -> None:
        """Write `folder`/likeness.npz, without pickles."""
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        with replacing(Path(folder) / LIKENESS_NAME) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read the likeness.npz of a model's folder; None where the model has none.

        Raises:
            DataError: It is damaged, or its arrays do not fit each other.
        """
        path, again = Path(folder) / LIKENESS_NAME, "train the model again"
        if not path.exists():
            return None
        arrays = read_arrays(path, DataError, names=[field.name for field in fields(cls)], missing=again, damaged=again)
        try:
            return cls(**arrays)
        except DataError as error:
            raise DataError(f"{path}: {error}: {again}") from None


def fit_likeness(features: np.ndarray, labels: np.ndarray, validation: np.ndarray, groups: np.ndarray) -> Likeness:
    """Learn what the features of training images are like, and set the threshold on validation images.

    Args:
        features: of training images, (num_images, num_features).
        labels: (num_images,) integers from 0 without gaps.
        validation: features of validation images, (num_validation, num_features).
        groups: (num_validation,) their groups.

    Cost: a singular value decomposition of the smaller of num_images and num_features.
    """
    features, labels = np.asarray(features, np.float64), np.asarray(labels)
    num_classes = int(labels.max()) + 1
    directions = _directions(features).astype(np.float32)
    values = _values(features, directions)
    class_means = np.stack([values[labels == c].mean(axis=0) for c in range(num_classes)])
    within = values - class_means[labels]
    variances, vectors = np.linalg.eigh(within.T @ within / len(within))
    least = max(variances[-1] * _LEAST_VARIANCE, _LEAST_SQUARE)
    fitted = Likeness(
        directions=directions,
        whitening=(vectors / np.sqrt(np.maximum(variances, least))).astype(np.float32),
        class_means=class_means.astype(np.float32),
        threshold=np.array([np.inf], np.float32),
    )
    first = np.unique(groups, return_index=True)[1]
    threshold = conformal_threshold(fitted.distances(np.asarray(validation)[first]))
    return replace(fitted, threshold=np.array([threshold], np.float32))


def conformal_threshold(distances: np.ndarray, false_alarms: float = FALSE_ALARMS) -> float:
    """Return the least of some distances that one more, exchangeable with them, exceeds with a probability of at most `false_alarms`.

    Infinite where they are too few: fewer than 1 / false_alarms - 1.
    """
    rank = math.ceil((len(distances) + 1) * (1 - false_alarms) - 1e-9)
    if rank > len(distances):
        return math.inf
    return float(np.nextafter(np.float32(np.sort(distances)[rank - 1]), np.float32(np.inf)))  # what is stored in float32 is no less


def _values(features: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return projected features, and the logarithm of the square of what lies outside: (num_images, k + 1) float64."""
    projected = features @ directions.astype(np.float64)
    outside = np.maximum((features**2).sum(axis=1) - (projected**2).sum(axis=1), 0)
    return np.column_stack([projected, np.log(outside + _LEAST_SQUARE)])


def _directions(features: np.ndarray) -> np.ndarray:
    """Return orthonormal principal directions about the origin, (num_features, k).

    Not about the mean: that would have to be stored in all dimensions, and a mean of many features tells whose they are (Homer et al.
    2008, PLoS Genet. 4, e1000167).
    """
    k = max(1, min(len(features) // IMAGES_A_DIRECTION, MOST_DIRECTIONS, *features.shape))
    return np.linalg.svd(features, full_matrices=False)[2][:k].T
