"""Whose films are in a total: what the key holder can ask of it.

Every attack scores candidates, larger for members. A candidate is a film whose features and label the attacker has, so none of these shows
a film that he has not got. A total is what `second_moments` says.
"""

from __future__ import annotations

import numpy as np

from ppdl.audit.pool.films import Films, num_classes_of, second_moments, whitener

_STEPS = 300  # of the projected gradient


def leverage(candidates: Films, total: np.ndarray) -> np.ndarray:
    """Score one film at a time by how little it stands out of the summed ones: -z' (sum of z z')^-1 z, float64 (num_candidates,).

    A member is part of what it is compared with, so its leverage is below 1, and below that of another film like it.

    Source: D. Hoaglin, R. Welsch, "The hat matrix in regression and ANOVA", The American Statistician 32, 1978.
    """
    rows = candidates.design(num_classes_of(total, candidates)) @ whitener(total)
    return -(rows**2).sum(axis=1)


def quadratic(candidates: Films, total: np.ndarray, reference: Films) -> np.ndarray:
    """Score one film at a time by how much the total holds in its direction beyond what reference films do: float64 (num_candidates,).

    To first order the logarithm of the likelihood ratio, where moments are normal about those of the population.

    Source: C. Dwork et al., "Robust traceability from trace amounts", FOCS 2015; N. Homer et al., PLoS Genetics 4(8), 2008.
    """
    num_classes = num_classes_of(total, candidates)
    known = second_moments(reference.design(num_classes))
    whiten = whitener(total + known)
    excess = whiten.T @ (total / _num_films(total, num_classes) - known / len(reference)) @ whiten
    rows = candidates.design(num_classes) @ whiten
    return (rows @ excess * rows).sum(axis=1) / (rows**2).sum(axis=1)


def pool(candidates: Films, total: np.ndarray) -> np.ndarray:
    """Score all candidates, who hold all members, together: which of them add up to the total? float64 (num_candidates,), from 0 to 1.

    Least squares over weights in [0, 1] of sum of w z z' = total, all equations at once: their products are (z_i' z_j)^2.

    Cost: a product (num_candidates, num_candidates) by (num_candidates,) for each of 300 steps: 0.3 s for 1,000 candidates.
    """
    num_classes = num_classes_of(total, candidates)
    rows = candidates.design(num_classes)
    whiten = whitener(second_moments(rows))
    rows = rows @ whiten
    kernel, share = (rows @ rows.T) ** 2, _num_films(total, num_classes) / len(rows)
    target = (rows @ (whiten.T @ total @ whiten) * rows).sum(axis=1)
    return _boxed(kernel, target, share)


def _num_films(total: np.ndarray, num_classes: int) -> float:
    return float(np.diagonal(total)[:num_classes].sum())


def _boxed(kernel: np.ndarray, target: np.ndarray, start: float) -> np.ndarray:
    """Minimise w' kernel w / 2 - target' w over weights in [0, 1] by accelerated projected gradient.

    Source: A. Beck, M. Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sciences 2(1), 2009.
    """
    bound = np.abs(kernel).sum(axis=1).max()  # of the largest eigenvalue
    weights = ahead = np.full(len(target), start)
    speed = 1.0
    for _ in range(_STEPS):
        new = np.clip(ahead - (kernel @ ahead - target) / bound, 0, 1)
        faster = (1 + np.sqrt(1 + 4 * speed**2)) / 2
        ahead = new + (speed - 1) / faster * (new - weights)
        weights, speed = new, faster
    return weights
