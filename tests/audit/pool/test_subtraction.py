"""What follows by subtraction is exact."""

import numpy as np
import pytest

from ppdl.audit.pool.films import Total
from ppdl.audit.pool.subtraction import guessed_counts, last_hospital, misplaced, single_film
from tests.audit.pool.pooled import NUM_CLASSES, draw


def parts():
    films = [draw(n, 6, np.random.default_rng(n)) for n in (30, 20, 10)]
    return films, [Total.of(one, NUM_CLASSES) for one in films]


def test_all_others_and_the_key_holder_have_the_last_hospitals_sums():
    _, (a, b, c) = parts()
    left = last_hospital(a + b + c, [a, b])
    assert all(np.array_equal(getattr(left, name), getattr(c, name)) for name in ("class_counts", "class_sums", "gram"))


@pytest.mark.parametrize("sign", [1, -1])
def test_two_totals_that_differ_by_one_film_give_it(sign):
    (films, *_), (total, *_) = parts()
    fewer = Total.of(films[np.arange(29)], NUM_CLASSES)
    features, label = single_film(total - fewer if sign == 1 else fewer - total)
    assert np.array_equal(features, films.features[29]) and label == films.labels[29]


def test_a_difference_of_none_or_several_is_no_film():
    _, (a, *_) = parts()
    assert single_film(a - a) is None and single_film(a) is None


def test_counts_of_a_hospital_are_guessed_from_the_total_alone():
    assert misplaced(np.array([5.0, 5.0]), np.array([10, 0])) == 0.5
    _, (a, b, c) = parts()
    total = a + b + c
    assert guessed_counts(total, 60) == pytest.approx(total.class_counts)
    assert misplaced(last_hospital(total, [a, b]).class_counts, c.class_counts) == 0
