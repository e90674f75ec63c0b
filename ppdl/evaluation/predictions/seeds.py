"""Predictions of several training seeds, and what another choice of seeds would do to a figure.

The K folds of a cross-validation, each trained with S seeds, are a study of many readers: a network of fold k reads the films of that fold
alone, and all S of them read the same films (a split-plot design: readers and cases nested in K blocks). Its model for a metric of fold k
and seed s is a common mean, an effect of the network, and an error of the films, which networks of the same films share in part. With
MS the variance between seeds, c the covariance over films of two seeds' errors, the mean over seeds has the variance

    MS / S  +  c            seeds, which vanishes with more of them,  +  films, which does not.

MS is pooled over folds, K (S - 1) degrees of freedom; c is the jackknife's, over groups of films. An interval for given networks
(`intervals`) has the jackknife's error of the mean over seeds inside, c + (v - c) / S with v a single seed's variance. So what lacks is
MS / S - (v - c) / S, and the ends of the interval are moved out by it, as independent errors are joined (MOVER), MS with Student's
quantile of its own degrees. It is never negative, so a wide interval holds the narrow one, and equals it where seeds change nothing.

The share of a fold in a metric is the sum of its groups' pseudo-values; for an accuracy that is the fold's hits over all images.

Assumptions: networks of different folds and seeds err independently but for what films they share; networks of all folds vary alike. What
another draw of *training* films would change is seen as far as folds differ, as in every cross-validation.

Source: Obuchowski and Rockette, Commun. Stat. Simul. 24 (1995) 285, for the model; Hillis, Stat. Med. 26 (2007) 596, for its degrees of
    freedom; Obuchowski, Gallas and Hillis, Acad. Radiol. 19 (2012) 1508, for blocks; Zou and Donner, Stat. Med. 27 (2008) 1693, for MOVER.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import ndtri, stdtrit

from ppdl.errors import DataError
from ppdl.evaluation.predictions.intervals import CONFIDENCE
from ppdl.evaluation.predictions.predictions import FIELDS, Predictions, check_same_images, pool

_TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True, eq=False)
class Seeded(Predictions):
    """Hold what several seeds' networks said of the same images: as Predictions those of the first seed, which figures are drawn of.

    Attributes:
        folds: (num_images,) integers: the fold that an image was tested in.
        others: the predictions of the other seeds, at least one.

    Raises:
        DataError: seeds are of different images, or a group is of two folds.
    """

    folds: np.ndarray
    others: tuple[Predictions, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.others:
            raise DataError("predictions of several seeds need those of at least 2, got 1")
        for number, other in enumerate(self.others, 1):
            check_same_images(self, other, names=("seed 0", f"seed {number}"))
        folds = np.asarray(self.folds)
        if folds.shape != self.labels.shape or folds.dtype.kind not in "iu":
            raise DataError(f"folds must be integers of shape {self.labels.shape}, one for each image, got {folds.shape} of {folds.dtype}")
        num_groups = len(np.unique(self.groups))
        if len(np.unique(np.stack([np.unique(self.groups, return_inverse=True)[1], folds]), axis=1).T) != num_groups:
            raise DataError("a group must be tested in one fold, and one is in two")

    @property
    def seeds(self) -> tuple[Predictions, ...]:
        """Return the predictions of each seed."""
        return Predictions(**{name: getattr(self, name) for name in FIELDS}), *self.others


def seeds_of(predictions: Predictions) -> tuple[Predictions, ...]:
    """Return the predictions of each seed; those of a single one are the only ones."""
    return predictions.seeds if isinstance(predictions, Seeded) else (predictions,)


def folds_of_groups(predictions: Predictions) -> np.ndarray:
    """Return the fold of each group, (num_groups,), groups in the order of `intervals.group_codes`: 0 for those of a single seed."""
    _, first = np.unique(predictions.groups, return_index=True)
    return np.asarray(predictions.folds)[first] if isinstance(predictions, Seeded) else np.zeros(len(first), int)


def pool_seeds(seeds: Sequence[Sequence[Predictions]], *, image_ids: Iterable[str | int]) -> Predictions:
    """Join the test predictions of a cross-validation with one or several seeds.

    Args:
        seeds: of each seed, one Predictions a fold.
        image_ids: see `pool`.

    Raises:
        DataError: see `pool` and `Seeded`; or a fold tested other images with another seed.
    """
    wanted = list(image_ids)
    first, *others = (pool(folds, image_ids=wanted) for folds in seeds)
    if not others:
        return first
    tested: dict[str, int] = {}
    for number, folds in enumerate(seeds):
        for k, fold in enumerate(folds):
            if any(tested.setdefault(image, k) != k for image in fold.image_ids.tolist()):
                raise DataError(f"fold {k} of seed {number} tested images that another fold tested with seed 0: folds are of another split")
    own = {name: getattr(first, name) for name in FIELDS}
    return Seeded(**own, folds=np.array([tested[image] for image in first.image_ids.tolist()]), others=tuple(others))


@dataclass(frozen=True)
class Spread:
    """Say what the choice of seeds adds to a figure: numbers, or arrays for many figures.

    Attributes:
        half: by how much, in the units of the figure, seeds move the ends of an interval for given networks, as an independent error.
        seeds, films: parts of the variance of the mean over seeds.
    """

    half: Any
    seeds: Any
    films: Any

    @classmethod
    def of(cls, values: np.ndarray, folds: np.ndarray) -> Self:
        """Measure the spread of a figure over seeds; without any where there is a single seed.

        Args:
            values: (..., num_seeds, 1 + num_groups) the figure on all images and without each group.
            folds: (num_groups,) the fold of each group.
        """
        num_seeds, num_groups = values.shape[-2], values.shape[-1] - 1
        without = values[..., 1:]
        apart = without - without.mean(axis=-1, keepdims=True)
        errors = (num_groups - 1) / num_groups * apart @ np.swapaxes(apart, -1, -2)  # (..., num_seeds, num_seeds), the jackknife's
        own = np.trace(errors, axis1=-2, axis2=-1) / num_seeds
        if num_seeds == 1:
            return cls(np.zeros_like(own), np.zeros_like(own), own)
        shared = (errors.sum(axis=(-2, -1)) / num_seeds - own) / (num_seeds - 1)
        pseudo = num_groups * values[..., :1] - (num_groups - 1) * without
        names = np.unique(folds)
        of_folds = np.stack([pseudo[..., folds == k].sum(axis=-1) for k in names], axis=-1) / num_groups  # (..., num_seeds, num_folds)
        between = of_folds.var(axis=-2, ddof=1).sum(axis=-1)
        quantile = stdtrit(len(names) * (num_seeds - 1), 1 - _TAIL)
        squared = (quantile**2 * between - ndtri(1 - _TAIL) ** 2 * (own - shared)) / num_seeds
        return cls(np.sqrt(np.maximum(squared, 0)), between / num_seeds, np.maximum(shared, 0))

    @property
    def seed_share(self) -> Any:
        """Return the part of the variance that is the seeds', 0 where nothing varies."""
        total = self.seeds + self.films
        return np.divide(self.seeds, total, out=np.zeros_like(total), where=total > 0)

    def widen(self, estimate: Any, low: Any, high: Any, *, least: float = 0.0, largest: float = 1.0) -> tuple[Any, Any]:
        """Return the ends of an interval for given networks, moved out by what seeds add, within what is possible."""
        down, up = (np.hypot(estimate - low, self.half), np.hypot(high - estimate, self.half))
        return np.maximum(estimate - down, least), np.minimum(estimate + up, largest)
