"""What follows from opened sums by subtraction alone, exactly: no attack, arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ppdl.audit.pool.films import Total


def last_hospital(total: Total, others: Sequence[Total]) -> Total:
    """Return the sums of the one hospital that did not pool its knowledge with the key holder's: the total less those of all others."""
    for one in others:
        total = total - one
    return total


def single_film(difference: Total) -> tuple[np.ndarray, int] | None:
    """Return the features, int64 (num_features,), and the label of a film when two totals differ by one; None when by none or several.

    A hospital with a single film has such sums as well.
    """
    if abs(difference.class_counts).sum() != 1:
        return None
    label = int(abs(difference.class_counts).argmax())
    return difference.class_sums[label] * difference.class_counts[label], label


def guessed_counts(total: Total, num_films: int) -> np.ndarray:
    """Return what the total's mix of classes says of a hospital's, whose number of films is public: float64 (num_classes,)."""
    return total.class_counts * (num_films / total.num_films)


def misplaced(guess: np.ndarray, counts: np.ndarray) -> float:
    """Return the share of a hospital's films that a guess of its counts by class puts into a wrong class."""
    return float(abs(guess - counts).sum() / (2 * counts.sum()))
