"""A linear head on features of a network that stays as it came: ridge or logistic regression, in the clear and in floating point."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, MinLen

from ppdl.errors import DataError
from ppdl.protections.view import plain_view
from ppdl.records.typecheck import Positive, Text
from ppdl.training.networks.features import Backbone, extract_features
from ppdl.training.networks.model import LEAST_PX

_MOST_ITERATIONS = 300


@dataclass(frozen=True)
class Candidate:
    """Name one way to make a head: side of the images in pixels, whether features are the mean of an image's and its mirror image's, what
    is minimised, and the strength of its regularisation."""

    input_px: int
    flips: bool
    kind: str
    strength: float


@dataclass(frozen=True, kw_only=True)
class FrozenHead:
    """Say which heads on frozen features to choose among: all combinations of the lists, by films that a head was not trained on.

    A linear head's mean answer to an image and its mirror image is its answer to the mean of their features: test-time flips are that.

    Args:
        weights, alpha, layers: see `Backbone`.
        input_px: sides of the images.
        flips: whether features are averaged over image and mirror image.
        kinds: ridge: squared error of the classes' signs; logistic: log loss. In both a class weighs by the inverse of its number
            of images.
        strengths: of the square of the weights, of standardised features, beside the mean loss of an image.
        num_folds: of the training films, on each of which heads of the others are judged.

    Raises:
        ConfigError: an argument breaks its rule.

    Source: Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2nd ed., sections 3.4, 4.2, 4.4; on choosing inside each
        fold, 7.10.2.
    """

    weights: Text
    alpha: Positive
    layers: Sequence[str] | None
    input_px: Annotated[tuple[Annotated[int, Ge(LEAST_PX)], ...], MinLen(1)]
    flips: Annotated[tuple[bool, ...], MinLen(1)]
    kinds: Annotated[tuple[Literal["ridge", "logistic"], ...], MinLen(1)]
    strengths: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)]
    num_folds: Annotated[int, Ge(2)]

    def __post_init__(self) -> None:
        for px in self.input_px:
            self._backbone(px)

    def _backbone(self, px: int) -> Backbone:
        return Backbone(weights=self.weights, alpha=self.alpha, input_px=px, layers=self.layers)

    def candidates(self) -> Iterator[Candidate]:
        """List the heads to choose among."""
        return itertools.starmap(Candidate, itertools.product(self.input_px, self.flips, self.kinds, self.strengths))

    def features(self, images: Any) -> np.ndarray:
        """Return features of images, rows (num_images, px, px) uint8, and of their mirror images: (2, num_images, num_features) float32.

        Without `flips` among the candidates the mirror images are left out: (1, num_images, num_features).
        """
        model, ways = self._backbone(images.shape[1]).build(Path()), [images]
        if True in self.flips:
            ways.append(plain_view(images).mirrored().array)
        return np.stack([extract_features(model, way) for way in ways])

    def train(self, candidate: Candidate, features: np.ndarray, labels: np.ndarray) -> Head:
        """Train one head on features (num_images, num_features) of images with these labels, all integers from 0 among them."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression, RidgeClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits

        penalty = candidate.strength * len(labels)
        if candidate.kind == "ridge":
            model: Any = RidgeClassifier(alpha=penalty, class_weight="balanced")
        else:
            model = LogisticRegression(C=1 / penalty, max_iter=_MOST_ITERATIONS, class_weight="balanced")
        head = make_pipeline(StandardScaler(), model)
        with threadpool_limits(limits=1, user_api="blas"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # films that it has not seen judge the head wherever it stopped
            head.fit(features.astype(np.float64), labels)
        return Head(head)


@dataclass(frozen=True, eq=False)
class Head:
    """Hold a trained head: scikit-learn's model on standardised features."""

    model: Any

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return scores of features (num_images, num_features): (num_images, num_classes) float64."""
        found = self.model.decision_function(features.astype(np.float64))
        return found if found.ndim == 2 else np.stack([np.zeros_like(found), found], axis=1)  # two classes: the log-odds of the second


def inner_folds(labels: np.ndarray, groups: np.ndarray, num_folds: int, *, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Share training films out to folds by group: yield rows to train on and rows to judge by.

    Raises:
        DataError: a class has too few groups to be in every training.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    kinds, counts = np.unique(np.unique(np.stack([labels, groups], axis=1), axis=0)[:, 0], return_counts=True)
    if counts.min() < num_folds:
        raise DataError(
            f"each class needs training images of at least {num_folds} groups (patients) to choose a head by {num_folds} folds, and label "
            f"{kinds[counts.argmin()]} has {counts.min()}: lower num_folds of the frozen head"
        )
    for inside, outside in StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed).split(labels, labels, groups):
        if missing := set(labels.tolist()) - set(labels[inside].tolist()):
            raise DataError(f"all groups of label {missing.pop()} fell into one inner fold: lower num_folds of the frozen head")
        yield inside, outside
