"""The learning rate of each round, and how far a round can carry a weight: public, so that ranges follow from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

FIRST = 0.3  # of the rate, in the first round: Adam's first steps are of full size whatever the gradient
LARGEST_STEP = 3.2  # times the rate: (1 - beta_1) / sqrt(1 - beta_2) = 3.17 for AdamW's 0.9 and 0.999, and the decay of a weight

GROWTH = 16.0  # of a layer's largest root mean square in one round, at most
LEAST_SQUARE = 1e-3  # BatchNorm adds as much to a variance


def rate_of(number: int, num_rounds: int, learning_rate: float) -> float:
    """Return the learning rate of round `number`, from 0: the same in all its steps. After a gentle first round, half a cosine.

    Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), eq. 5 without restarts, by rounds.
    """
    part = FIRST if number == 0 else 0.5 * (1 + math.cos(math.pi * number / num_rounds))
    return learning_rate * round(part, 12)  # machines whose cosines differ in the last bit must agree on the range of an update


def num_steps(films: Iterable[int], batch_size: int, epochs: int) -> int:
    """Count the steps of the largest hospital in so many passes; `films`: how many training films each has."""
    return epochs * math.ceil(max(films) / batch_size)


def largest_update(rate: float, num_steps: int) -> float:
    """Return the most that so many steps move a weight.

    Source: D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980), section 2.1.
    """
    return LARGEST_STEP * rate * num_steps


def moment_ranges(sizes: Sequence[int], squares: np.ndarray) -> tuple[tuple[int, float], ...]:
    """Return how far a round may carry the moments of what enters BatchNorm: blocks of (number of values, range), means, then squares.

    Layers differ: with ImageNet weights of alpha 0.35 mean squares reach 7,900, with 1.0 not 7.

    Args:
        sizes: channels of each layer. squares: mean squares of all channels in the round before, or as the network starts.
    """
    parts = np.split(squares, np.cumsum(sizes)[:-1])
    largest = [max(float(part.max()), LEAST_SQUARE) for part in parts]
    means = [(size, GROWTH * math.sqrt(square)) for size, square in zip(sizes, largest, strict=True)]
    return *means, *((size, GROWTH**2 * square) for size, square in zip(sizes, largest, strict=True))
