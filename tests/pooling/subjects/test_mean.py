"""Weighted means of vectors from integer sums: within the bound of rounding, whoever comes, and whatever lies outside of the range."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppdl.errors import ConfigError, DataError
from ppdl.pooling.subjects.mean import MeanSums

NAMES = ("anna", "berta", "clara", "dora")


def subject(bits=16, ranges=((3, 0.5), (2, 64.0))):
    return MeanSums("update 0", "0" * 64, bits, ranges)


@given(
    st.lists(st.integers(1, 5000), min_size=3, max_size=4), st.integers(2, 32), st.integers(0, 2**32 - 1), st.floats(0.01, 3), st.booleans()
)
def test_the_mean_is_that_of_the_clipped_values_within_the_bound_of_rounding(sizes, bits, seed, spread, one_stays_away):
    films = dict(zip(NAMES, sizes, strict=False))
    came = list(films)[: len(films) - (one_stays_away and len(films) > 3)]
    own, rng = subject(bits), np.random.default_rng(seed)
    brought = {name: rng.normal(0, spread, 5) * [0.5, 0.5, 0.5, 64, 64] for name in came}
    integers = {name: own.integers(name, values, films) for name, values in brought.items()}
    total = np.sum(list(integers.values()), axis=0)
    assert all((sums >= 0).all() for sums in integers.values()) and int(total.max()).bit_length() <= own.slot_bits(films) <= 63
    assert total[-1] == sum(films[name] for name in came)  # the weights
    mean = own.total(total, films, came)
    expected = sum(films[name] * np.clip(values, -own._range, own._range) for name, values in brought.items()) / total[-1]
    assert own.clear_mean(brought, films) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert (np.abs(mean - own.clear_mean(brought, films)) <= own.rounding(films, came) * (1 + 1e-5)).all()
    assert own.clipped(brought) == np.mean([np.abs(values) > own._range for values in brought.values()])


def test_hospitals_weigh_as_many_films_as_they_have():
    films = {"anna": 900, "berta": 50, "clara": 50}
    brought = {name: np.full(5, value) for name, value in zip(films, (0.1, 0.4, -0.4), strict=True)}
    total = sum(subject(24).integers(name, values, films) for name, values in brought.items())
    assert subject(24).total(total, films, films.keys())[:3] == pytest.approx(0.09, abs=1e-6)


def test_a_value_that_is_saturated_counts_as_the_end_of_its_range_and_is_counted():
    films = dict.fromkeys(NAMES[:3], 10)
    brought = {"anna": np.array([0.7, 0, 0, 0, 0]), "berta": np.array([-9.0, 0, 0, 0, 0]), "clara": np.array([0.2, 0, 0, 0, -65])}
    total = sum(subject().integers(name, values, films) for name, values in brought.items())
    assert subject().total(total, films, films.keys()) == pytest.approx([0.2 / 3, 0, 0, 0, -64 / 3], abs=1e-2)
    assert subject().clipped(brought) == 3 / 15


def test_totals_of_no_films_are_refused():
    films = dict.fromkeys(NAMES[:3], 10)
    total = sum(subject().integers(name, np.full(5, 0.5), films) for name in films)
    for at, by in ((0, 1), (0, -(6 * subject().largest) - 1), (-1, 1)):
        wrong = total.copy()
        wrong[at] += by
        with pytest.raises(DataError, match="the opened total is of no films"):
            subject().total(wrong, films, films.keys())


@pytest.mark.parametrize("values", [np.zeros(4), np.zeros((5, 1)), np.array([0, 0, np.nan, 0, 0]), np.array([0, 0, 0, 0, np.inf])])
def test_what_is_no_vector_of_these_terms_is_refused(values):
    with pytest.raises(DataError, match="anna must bring 5 finite values as update 0"):
        subject().integers("anna", values, dict.fromkeys(NAMES[:3], 10))


def test_ranges_and_bits_that_nothing_fits_into_are_refused():
    for change in ({"bits": 1}, {"bits": 33}, {"ranges": ()}, {"ranges": ((3, 0.0),)}, {"ranges": ((0, 1.0),)}, {"ranges": ((3, np.inf),)}):
        with pytest.raises(ConfigError, match=r"(bits of a value|ranges of the update 0) must be"):
            subject(**change)


def test_a_subject_comes_back_from_json_as_the_same():
    tree = json.loads(json.dumps(asdict(subject(ranges=((3, 3.2 * 0.0003 * 10), (2, 4096.0))))))
    assert json.loads(json.dumps(asdict(MeanSums.from_tree(tree)))) == tree
