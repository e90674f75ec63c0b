"""Intervals hold the truth as often as they say, by the simulation of benchmarks/coverage.py."""

import numpy as np
import pytest

from benchmarks.coverage import ACCURACIES, DIFFERENCES, SIZES, accuracy, area, difference


def coverage(simulate, truth, num_groups, sizes, dependence, replicates=2000):
    rng = np.random.default_rng(20)
    value, (low, high) = simulate(rng, SIZES[sizes](rng, (replicates, num_groups)), dependence, truth)
    return ((low - 1e-9 <= value) & (value <= high + 1e-9)).mean()


@pytest.mark.parametrize("num_groups", [5, 10, 40, 200])
@pytest.mark.parametrize(("sizes", "dependence"), [("one", 0.0), ("four", 1.0), ("unequal", 1.0)])
def test_accuracy_and_differences_are_covered(num_groups, sizes, dependence):
    assert all(coverage(accuracy, truth, num_groups, sizes, dependence) >= 0.94 for truth in ACCURACIES)
    assert all(coverage(difference, truth, num_groups, sizes, dependence) >= 0.94 for truth in DIFFERENCES)


@pytest.mark.parametrize("truth", [(0.8, 0.2), (0.99, 0.5)])
def test_an_auroc_is_covered(truth):
    assert coverage(area, truth, 40, "four", 0.3, replicates=300) >= 0.94
