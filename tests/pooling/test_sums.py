import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppdl.errors import DataError
from ppdl.pooling.sums import Sums, check_total, integer_features, num_sums, slot_bits, sums_of


def films(seed, num_films, num_features=5, num_classes=3, bits=12):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**bits, (num_films, num_features)), rng.integers(0, num_classes, num_films)


def summed(seed, num_films, **others):
    features, labels = films(seed, num_films, **others)
    return sums_of(features, labels, num_classes=3, feature_bits=12)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(8, 16))
def test_sums_are_those_of_a_loop(seed, num_films, bits):
    features, labels = films(seed, num_films, bits=bits)
    found = sums_of(features, labels, num_classes=3, feature_bits=bits)
    assert found.gram.tolist() == sum(np.outer(row, row) for row in features).tolist()
    assert found.class_counts.tolist() == [int((labels == k).sum()) for k in range(3)]
    assert found.class_sums.tolist() == [features[labels == k].sum(axis=0).tolist() for k in range(3)]
    check_total(found, num_films)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(0, 2**32))
def test_sums_of_hospitals_are_the_sums_of_all_films(sizes, seed):
    parts = [films(seed + i, size) for i, size in enumerate(sizes)]
    total = sums_of(*map(np.concatenate, zip(*parts, strict=True)), num_classes=3, feature_bits=12)
    first, *rest = (sums_of(*part, num_classes=3, feature_bits=12) for part in parts)
    for other in rest:
        first = first + other
    assert first.flat().tolist() == total.flat().tolist()
    assert len(total.flat()) == num_sums(3, 5)
    assert max(total.flat()) < 2 ** slot_bits(sum(sizes), 12)


def test_the_largest_sums_are_exact_beyond_what_one_float_holds():
    features = np.full((200_000, 2), 2**16 - 1)
    total = sums_of(features, np.zeros(200_000, int), num_classes=1, feature_bits=16)
    assert set(total.moments.tolist()) == {200_000 * (2**16 - 1) ** 2}


def test_flat_and_back():
    total = summed(1, 30)
    again = Sums.from_flat(total.flat(), num_classes=3, num_features=5, feature_bits=12)
    assert again.flat().tolist() == total.flat().tolist() and again.gram.tolist() == total.gram.tolist()
    assert (again - total).flat().tolist() == [0] * num_sums(3, 5)


@pytest.mark.parametrize(
    ("place", "change", "rule"),
    [
        (0, 1, "add up to the 30 that were declared"),
        (3, 2**20, "no class sum exceeds"),
        (18, 1, "sums of squares are even where sums are"),
        (18, -(2**27), "sums of squares lie between"),
        (18, 2**29, "sums of squares lie between"),
        (19, -(2**40), "no product exceeds the largest"),
        (19, 2**27, "positive semidefinite"),
    ],
)
def test_totals_of_no_films_are_refused_without_quoting_them(place, change, rule):
    flat = summed(1, 30).flat()
    flat[place] += change
    with pytest.raises(DataError, match=rule) as error:
        check_total(Sums.from_flat(flat, num_classes=3, num_features=5, feature_bits=12), 30)
    assert str(flat[place]) not in str(error.value)


def test_another_number_of_films_than_declared_is_refused():
    with pytest.raises(DataError, match="add up to the 31 that were declared"):
        check_total(summed(1, 30), 31)


def test_features_become_the_nearest_integers():
    assert integer_features(np.array([[0.0, 0.5, 1.0]]), 12).tolist() == [[0, 2048, 4095]]
    for wrong in (-0.001, 1.001, np.nan):
        with pytest.raises(DataError, match=r"features must lie in \[0, 1\]"):
            integer_features(np.array([[wrong]]), 12)


@pytest.mark.parametrize(
    ("features", "labels", "rule"),
    [
        (np.zeros((0, 5), int), np.zeros(0, int), "at least one film"),
        (np.zeros((2, 5)), np.zeros(2, int), r"integers \(num_films, num_features\)"),
        (np.zeros((2, 5), int), np.zeros(3, int), "at least one film"),
        (np.full((2, 5), 4096), np.zeros(2, int), "between 0 and 4095"),
        (np.full((2, 5), -1), np.zeros(2, int), "between 0 and 4095"),
        (np.zeros((2, 5), int), np.array([0, 3]), r"labels must lie in \[0, 3\)"),
        (np.zeros((2, 5), int), np.array([-1, 0]), r"labels must lie in \[0, 3\)"),
    ],
)
def test_bad_films_are_refused(features, labels, rule):
    with pytest.raises(DataError, match=rule):
        sums_of(features, labels, num_classes=3, feature_bits=12)
