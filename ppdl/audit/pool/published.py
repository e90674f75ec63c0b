"""Whose films a head was trained on: what its user can ask, who has nothing else, and a hospital, which has its own films besides."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ppdl.audit.pool.films import Films
from ppdl.errors import DataError

_FLOOR = 1e-12  # of the kernel's mean diagonal: below it is rounding of float64


@dataclass(frozen=True, eq=False)
class PublishedHead:
    """Hold a ridge head as it is published, on the integer features of `Films`.

    Attributes:
        weights: (num_classes, num_features) float64, multiples of `step`. bias: (num_classes,), multiples of `bias_step`.
        step, bias_step: what a weight and a bias were rounded to.
        penalty: strength times number of films times squared spread of each feature, (num_features,): what the ridge adds to the diagonal
            of n times the covariance. Strengths are in the terms of a run, and spreads are nearly those of the candidates.
        num_films: that it was trained on; hospitals declare them.

    Raises: DataError when shapes do not fit, or a step or the penalty is not above 0.
    """

    weights: np.ndarray = field(repr=False)
    bias: np.ndarray = field(repr=False)
    step: float
    bias_step: float
    penalty: np.ndarray
    num_films: int

    def __post_init__(self) -> None:
        shapes = self.weights.shape[:1], self.weights.shape[1:]
        if self.weights.ndim != 2 or (self.bias.shape, self.penalty.shape) != shapes:
            raise DataError(f"bias and penalty must fit weights {self.weights.shape}, got {self.bias.shape} and {self.penalty.shape}")
        if not (min(self.step, self.bias_step) > 0 and (self.penalty > 0).all()):
            raise DataError("step, bias_step and penalty must be above 0")

    def logits(self, candidates: Films) -> np.ndarray:
        """Return (num_candidates, num_classes) float64."""
        return candidates.features @ self.weights.T + self.bias


def margins(candidates: Films, head: PublishedHead) -> np.ndarray:
    """Score one film at a time by the logit of its class above the next: float64 (num_candidates,)."""
    logits = head.logits(candidates)
    own = np.take_along_axis(logits, candidates.labels[:, None], axis=1)[:, 0]
    np.put_along_axis(logits, candidates.labels[:, None], -np.inf, axis=1)
    return own - logits.max(axis=1)


def pool(candidates: Films, head: PublishedHead, own: Films | None = None) -> np.ndarray:
    """Score all candidates, who hold all members, together: on which of them is this head the ridge solution? float64 (num_candidates,).

    At the solution sum of w z (y - y_hat)' = (0, penalty * weights), z = (1, x). Multiplied by the inverse Hessian, the error of both
    sides is that of rounding the head: uniform, so of variance step^2 / 12, and independent from weight to weight. What is returned is the
    mean of w given that, w being of mean and variance of a draw of the unknown members among the candidates.

    Args:
        own: members that the attacker knows: those of a hospital that asks about the others'. They are no candidates.

    Cost: a linear system of num_candidates unknowns, 0.1 s for 1,000.

    Source: influence of a film on a solution: R. Cook, S. Weisberg, Residuals and Influence in Regression, 1982.
    """
    num, num_unknown = len(candidates), head.num_films - (0 if own is None else len(own))
    share = num_unknown / num
    if not 0 < share < 1:
        raise DataError(f"candidates must be more than the {num_unknown} members, got {num}")
    rows, left = _influences(candidates, head)
    hessian = share * rows.T @ rows + np.diag(np.concatenate([[0.0], head.penalty]))
    gradient = np.concatenate([np.zeros((1, len(head.weights))), head.penalty[:, None] * head.weights.T])
    if own is not None:
        known, known_left = _influences(own, head)
        hessian += known.T @ known
        gradient -= known.T @ known_left
    scale = np.sqrt(np.diagonal(hessian))
    inverse = np.linalg.inv(hessian / scale[:, None] / scale) / scale[:, None] / scale
    error = np.concatenate([[head.bias_step], np.full(len(head.penalty), head.step)]) / np.sqrt(12)
    moved = rows @ inverse / error
    wanted = inverse @ gradient / error[:, None]
    kernel = (moved @ moved.T) * (left @ left.T)
    gap = (moved @ wanted * left).sum(axis=1) - share * kernel.sum(axis=1)
    noise = 1 / (share * (1 - share)) + _FLOOR * np.trace(kernel) / num
    return share + np.linalg.solve(kernel + noise * np.eye(num), gap)


def _influences(films: Films, head: PublishedHead) -> tuple[np.ndarray, np.ndarray]:
    """Return z (num_films, 1 + num_features) and y - y_hat (num_films, num_classes)."""
    rows = np.concatenate([np.ones((len(films), 1)), films.features.astype(np.float64)], axis=1)
    return rows, np.eye(len(head.weights))[films.labels] - head.logits(films)
