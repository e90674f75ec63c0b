"""Films with correlated features, members and others of the same kind, and heads that were trained on the members."""

import numpy as np

from ppdl.audit.pool.films import Films, second_moments
from ppdl.audit.pool.published import PublishedHead

NUM_CLASSES = 3
LARGEST = 4095


def draw(num_films: int, num_features: int, rng: np.random.Generator) -> Films:
    fixed = np.random.default_rng(0)
    mixing, centres = fixed.normal(size=(num_features, num_features)), fixed.normal(size=(NUM_CLASSES, num_features))
    labels = rng.integers(0, NUM_CLASSES, num_films)
    values = rng.standard_t(6, (num_films, num_features)) @ mixing / np.sqrt(num_features) + 0.4 * centres[labels]
    features = np.rint(np.clip(0.3 + 0.2 * values, 0, 1) * LARGEST).astype(np.int64)
    return Films(features, labels, np.arange(num_films))


def total_of(films: Films) -> np.ndarray:
    return second_moments(films.design(NUM_CLASSES))


def ridge(films: Films, *, levels: int) -> PublishedHead:
    """Solve for a head, and round it to so many levels on either side of zero."""
    x, y = films.features.astype(np.float64), np.eye(NUM_CLASSES)[films.labels]
    n, mean, spread, strength = len(x), x.mean(0), x.std(0), 0.1
    weights = np.linalg.solve(x.T @ x / n - np.outer(mean, mean) + np.diag(strength * spread**2), x.T @ y / n - np.outer(mean, y.mean(0))).T
    bias = y.mean(0) - weights @ mean
    step = np.abs(weights).max() / levels
    bias_step = step * LARGEST / 255
    rounded = np.rint(weights / step) * step, np.rint(bias / bias_step) * bias_step
    return PublishedHead(*rounded, step, bias_step, strength * n * spread**2, n)
