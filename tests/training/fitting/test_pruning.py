"""The median stopping rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppdl.config import construct
from ppdl.errors import ConfigError
from ppdl.training.fitting.pruning import MedianStopping

FINISHED = [[3.0, 1.0, 0.5], [3.0, 2.0, 0.4], [9.0, 9.0, 0.3]]  # averages of two epochs: 2, 2.5, 9
loss = st.floats(0, 100)


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([2.6], False),  # its first epoch is its own
        ([4.0, 2.6], True),
        ([2.4, 4.0], False),  # its best counts, not its last
        ([4.0, 2.5], False),  # as good as the median
        ([4.0, 2.6, 2.1], True),  # averages of three epochs: 1.5, 1.8, 6.1
        ([4.0, 2.6, 1.7], False),
    ],
)
def test_compares_its_best_with_the_median_of_averages(losses, stops):
    assert MedianStopping(least_epochs=2, least_trials=3).stops(losses, FINISHED) is stops


def test_stops_none_while_few_have_finished():
    assert not MedianStopping(least_epochs=1, least_trials=4).stops([99.0], FINISHED)
    assert not MedianStopping(least_epochs=1, least_trials=1).stops([99.0], [])


def test_a_trial_that_ended_early_counts_with_what_it_had():
    assert MedianStopping(least_epochs=1, least_trials=1).stops([3.0, 3.0, 3.0], [[1.0, 2.0]])


@given(st.lists(loss, min_size=1), st.lists(st.lists(loss, min_size=1), min_size=1))
def test_what_is_stopped_is_not_the_best(losses, finished):
    if MedianStopping(least_epochs=1, least_trials=1).stops(losses, finished):
        assert min(losses) > min(map(min, finished))


@pytest.mark.parametrize("name", ["least_epochs", "least_trials"])
@pytest.mark.parametrize("value", [0, True, 1.5, None])
def test_refuses_what_is_no_number_of_anything(name, value):
    with pytest.raises(ConfigError, match=f"{name}: must be (an integer|>= 1)"):
        construct(MedianStopping, {"least_epochs": 1, "least_trials": 1} | {name: value}, "pruning")
