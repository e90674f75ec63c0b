"""Images reduced as they are read equal images reduced at once."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.datasets.prepared.reduced import Reduced
from ppdl.datasets.prepared.resize import area_mean
from ppdl.errors import ConfigError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 12, 12), dtype=np.uint8)


@pytest.mark.parametrize("rows", [slice(None), slice(2, 5), np.array([4, 0, 4]), np.arange(7) % 2 == 0], ids=str)
def test_rows_equal_those_of_all_images_reduced_at_once(rows):
    np.testing.assert_array_equal(Reduced(IMAGES, 4)[rows], area_mean(IMAGES, 4)[rows])


@pytest.mark.parametrize("row", [0, 6, -1, -7])
def test_a_single_row(row: int):
    np.testing.assert_array_equal(Reduced(IMAGES, 3)[row], area_mean(IMAGES, 3)[row])


def test_a_row_that_is_not_there():
    with pytest.raises(IndexError):
        Reduced(IMAGES, 3)[7]


def test_it_describes_itself_as_the_array_would():
    reduced, whole = Reduced(IMAGES, 6), area_mean(IMAGES, 6)
    assert (len(reduced), reduced.shape, reduced.dtype, reduced.ndim, reduced.size) == (7, whole.shape, whole.dtype, 3, whole.size)
    np.testing.assert_array_equal(np.asarray(reduced), whole)


@pytest.mark.parametrize("px", [0, 5, 24])
def test_a_size_that_does_not_divide_is_refused(px: int):
    with pytest.raises(ConfigError, match=f"input_px must divide prepared_px.*got {px} and 12"):
        Reduced(IMAGES, px)
