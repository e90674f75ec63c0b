"""The learning rate of each round, and how far a round can carry a weight: public, so that ranges follow from them."""

from __future__ import annotations

import math

FIRST = 0.3  # of the rate, in the first round: Adam's first steps are of full size whatever the gradient
LARGEST_STEP = 3.2  # times the rate: (1 - beta_1) / sqrt(1 - beta_2) = 3.17 for AdamW's 0.9 and 0.999, and the decay of a weight

MEAN_RANGE = 64.0  # of what enters a BatchNorm layer, its mean over films; the mean square lies below the square of this


def rate_of(number: int, num_rounds: int, learning_rate: float) -> float:
    """Return the learning rate of round `number`, from 0: the same in all its steps. After a gentle first round, half a cosine.

    Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), eq. 5 without restarts, by rounds.
    """
    return learning_rate * (FIRST if number == 0 else 0.5 * (1 + math.cos(math.pi * number / num_rounds)))


def largest_update(rate: float, num_steps: int) -> float:
    """Return the most that so many steps move a weight.

    Source: D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980), section 2.1.
    """
    return LARGEST_STEP * rate * num_steps
