"""The rate of each round, and how far a round carries a weight at most."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppdl.training.federated.schedule import FIRST, GROWTH, LEAST_SQUARE, largest_update, moment_ranges, rate_of


@given(st.integers(2, 60), st.floats(1e-5, 1))
def test_after_a_gentle_first_round_rates_fall_along_half_a_cosine(rounds, highest):
    rates = [rate_of(number, rounds, highest) for number in range(rounds)]
    assert rates[0] == pytest.approx(FIRST * highest)
    assert all(0 < rate <= highest for rate in rates)
    assert all(a > b for a, b in itertools.pairwise(rates[1:]))
    assert rate_of(rounds, 2 * rounds, highest) == pytest.approx(highest / 2)


@given(st.integers(1, 200), st.integers(0, 2**32 - 1), st.integers(0, 400))
def test_no_gradients_carry_adam_further_than_the_bound(steps, seed, before):
    """Whatever came before, and whatever the gradients are: the worst, one after a long calm, among them."""
    rng, rate = np.random.default_rng(seed), 0.01
    gradients = rng.normal(size=before + steps) * 10.0 ** rng.integers(-6, 6, before + steps)
    momentum = velocity = moved = 0.0
    for step, gradient in enumerate(gradients, 1):
        momentum += (gradient - momentum) * 0.1
        velocity += (gradient**2 - velocity) * 0.001
        corrected = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        moved += momentum * corrected / (np.sqrt(velocity) + 1e-7) if step > before else 0.0
    assert abs(moved) <= largest_update(rate, steps)


def test_moments_have_ranges_by_layer_from_the_round_before():
    squares = np.array([4.0, 1.0, 0.0, 0.0, 0.0])
    assert moment_ranges([2, 3], squares) == (
        (2, GROWTH * 2),
        (3, GROWTH * LEAST_SQUARE**0.5),
        (2, GROWTH**2 * 4),
        (3, GROWTH**2 * LEAST_SQUARE),
    )
