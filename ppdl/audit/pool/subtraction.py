"""What follows from opened sums by subtraction alone, exactly: no attack, arithmetic. A total is what `films.second_moments` says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def last_hospital(total: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sums of the one hospital that did not pool its knowledge with the key holder's: the total less those of all others."""
    return total - sum(others)


def single_film(difference: np.ndarray, num_classes: int) -> tuple[np.ndarray, int] | None:
    """Return the features, float64 (num_features,), and the label of a film when two totals differ by one; None when by none or several.

    A hospital with a single film has such sums as well.
    """
    counts = np.diagonal(difference)[:num_classes]
    if abs(counts).sum() != 1:
        return None
    label = int(abs(counts).argmax())
    return difference[label, num_classes:] * counts[label], label


def guessed_counts(total_counts: np.ndarray, num_films: int) -> np.ndarray:
    """Return what the total's films of each class say of a hospital's, whose number of films is public: float64 (num_classes,)."""
    return total_counts * (num_films / total_counts.sum())


def misplaced(guess: np.ndarray, counts: np.ndarray) -> float:
    """Return the share of a hospital's films that a guess of its counts by class puts into a wrong class."""
    return float(abs(guess - counts).sum() / (2 * counts.sum()))
