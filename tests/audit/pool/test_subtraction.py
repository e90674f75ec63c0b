"""What follows by subtraction is exact."""

import numpy as np
import pytest

from ppdl.audit.pool.subtraction import guessed_counts, last_hospital, misplaced, single_film
from tests.audit.pool.pooled import NUM_CLASSES, draw, total_of


def parts():
    films = [draw(n, 6, np.random.default_rng(n)) for n in (30, 20, 10)]
    return films, [total_of(one) for one in films]


def test_all_others_and_the_key_holder_have_the_last_hospitals_sums():
    _, (a, b, c) = parts()
    left = last_hospital(a + b + c, [a, b])
    assert np.array_equal(left, c)


@pytest.mark.parametrize("sign", [1, -1])
def test_two_totals_that_differ_by_one_film_give_it(sign):
    (films, *_), (total, *_) = parts()
    fewer = total_of(films[np.arange(29)])
    features, label = single_film(total - fewer if sign == 1 else fewer - total, NUM_CLASSES)
    assert np.array_equal(features, films.features[29]) and label == films.labels[29]


def test_a_difference_of_none_or_several_is_no_film():
    _, (a, *_) = parts()
    assert single_film(a - a, NUM_CLASSES) is None and single_film(a, NUM_CLASSES) is None


def test_counts_of_a_hospital_are_guessed_from_the_total_alone():
    assert misplaced(np.array([5.0, 5.0]), np.array([10, 0])) == 0.5
    _, (a, b, c) = parts()
    total = a + b + c
    counts = [np.diagonal(one)[:NUM_CLASSES] for one in (total, last_hospital(total, [a, b]), c)]
    assert guessed_counts(counts[0], 60) == pytest.approx(counts[0])
    assert misplaced(*counts[1:]) == 0
