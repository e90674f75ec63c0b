"""Many shards read as one array: the rules are numpy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppdl.crypto.artifact.rows import ShardedRows

SIZES = (3, 1, 4, 2)
WHOLE = np.random.default_rng(0).integers(0, 256, (10, 2, 5), np.uint8)
PARTS = np.split(WHOLE, np.cumsum(SIZES)[:-1])


def sharded(opened=None):
    def open_shard(index):
        if opened is not None:
            opened.append(index)
        return PARTS[index]

    return ShardedRows([0, *np.cumsum(SIZES)], (2, 5), open_shard)


numbers = st.integers(-10, 9)
bounds = st.none() | st.integers(-12, 12)
keys = st.one_of(
    numbers,
    st.builds(slice, bounds, bounds, st.none() | st.integers(-4, 4).filter(bool)),
    st.lists(numbers, min_size=1).map(np.array),
    st.lists(st.booleans(), min_size=10, max_size=10).map(np.array),
)


@given(keys)
def test_rows_are_those_of_the_whole_array(key):
    assert np.array_equal(sharded()[key], WHOLE[key])
    assert sharded()[key].dtype == np.uint8


@given(keys)
def test_further_indices_apply_to_the_result(key):
    assert np.array_equal(sharded()[key, ..., 1:3], WHOLE[key, ..., 1:3])
    assert np.array_equal(sharded()[key, ..., 0, 4], WHOLE[key, ..., 0, 4])


def test_it_looks_like_an_array():
    rows = sharded()
    assert (len(rows), rows.shape, rows.ndim, rows.size, rows.nbytes, rows.dtype) == (10, (10, 2, 5), 3, 100, 100, np.uint8)
    assert np.array_equal(np.asarray(rows), WHOLE)
    assert np.array_equal(np.array(rows, np.float32), WHOLE.astype(np.float32))
    assert np.array_equal(rows[[]], WHOLE[[]])
    assert np.array_equal([row for row in rows], WHOLE)  # noqa: C416 - iteration is the point


def test_only_the_shards_that_are_needed_are_opened():
    opened = []
    rows = sharded(opened)
    assert rows.shape and opened == []
    rows[3]
    assert opened == [1]
    rows[4:6]
    assert opened == [1, 2]
    rows[np.array([9, 0, 9])]
    assert opened == [1, 2, 0, 3]


def test_a_slice_of_one_shard_is_a_view():
    assert np.shares_memory(sharded()[4:7], WHOLE)
    assert not np.shares_memory(sharded()[2:7], WHOLE)


@pytest.mark.parametrize("key", [10, -11, np.array([10]), np.array([-11]), np.array([0.5]), np.zeros((2, 2), int), np.ones(9, bool), "a"])
def test_bad_indices_are_refused(key):
    with pytest.raises(IndexError):
        sharded()[key]
