"""What outputs tell about integer pixels: compared with trying every patch, and the cases that rank over the reals gets wrong."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ppdl.crypto.arithmetic.linear import dct_filters
from ppdl.datasets.prepared.resize import area_mean
from ppdl.protections.steps import disclosure as module
from ppdl.protections.steps.disclosure import FEW_VALUES, Disclosure, Outputs, Tile, Undecided, _Block, _Work, disclosure, essential
from ppdl.protections.steps.ledger import outputs_on

PIXELS = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0))
DIFFERENCES = ((1, -1, 0, 0), (0, 1, -1, 0), (0, 0, 1, -1))


def dct(px, stride, channels=3, weight_bits=4):
    return outputs_on(px, px, stride, dct_filters(stride, channels, weight_bits))


def on_pairs(px, first, second):
    """Eight filters at stride 4, one for each pair of neighbours: rank 8 of 16."""
    weights = np.zeros((8, 16), np.int64)
    weights[np.arange(8), np.arange(0, 16, 2)], weights[np.arange(8), np.arange(1, 16, 2)] = first, second
    assert np.linalg.matrix_rank(weights) == 8
    return outputs_on(px, px, 4, weights)


def told(block, values):
    return block.num_values(np.array(values, np.int64), _Work()) == 1


@cache
def every_patch(largest, num_pixels):
    return np.array(list(itertools.product(range(largest + 1), repeat=num_pixels)))


def by_trying(rows, patch, largest):
    """Tell which pixels have one value, by trying every patch."""
    patches = every_patch(largest, len(patch))
    same = patches[(patches @ rows.T == patch @ rows.T).all(1)]
    return (same == same[0]).all(0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=4, max_size=4), min_size=1, max_size=3),
    st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=6),
)
@example([[-6, 2, 7, -1], [4, 6, -2, 2]], [[1, 1, 5, 4]])  # these two end HiGHS 1.12 with presolve in "Solve error"
@example([[6, -9, -7, 9]], [[5, 2, 0, 5]])
def test_a_pixel_has_one_value_where_trying_every_patch_finds_one(rows, patches):
    """The law, on pixels 0..5: any filters, zeros and dependent ones included."""
    block = _Block(tuple(map(tuple, rows)), ((0, 5),) * 4, (True,) * 4)
    expected = [by_trying(np.array(rows), np.array(patch), 5) for patch in patches]
    np.testing.assert_array_equal(told(block, patches), expected)


def test_blocks_together_are_the_whole():
    """Filters of two strides on 4 x 4 pixels of 0..1, against trying all 65,536 patches."""
    outputs = [Outputs(8, 8, 2, ((1, 1, 1, 1), (1, 0, 0, 0))), Outputs(8, 8, 4, ((0, 1, 0, 1, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 5),))]
    tile = Tile(outputs)
    tile.ranges = [(0, 1)] * 16
    rows = np.array([[equation.get(column, 0) for column in range(16)] for equation in tile.equations])
    patches = np.random.default_rng(3).integers(0, 2, (6, 16))
    expected = [by_trying(rows, patch, 1) for patch in patches]
    assert len(tile._blocks()) > 1
    found = np.zeros((6, 16), bool)
    for block, places in tile._blocks().items():
        for columns in places:
            found[:, columns] = told(block, patches[:, columns])
    np.testing.assert_array_equal(found, expected)


def test_three_of_dct_at_stride_2_leave_each_patch_open_but_for_the_ends_of_the_range():
    """x + t (1, -1, -1, 1): one solution where neither t = 1 nor t = -1 stays in 0..255, some 0.02 % of uniform patches."""
    found = disclosure([dct(128, 2)])
    assert found.patches_unique_uniform == found.pixels_determined_uniform <= found.worst_pixel < 0.05
    assert 0 <= found.patches_unique_uniform < 0.001 and found.patches_unique_phantom == 0
    patches = np.random.default_rng(module.SEED).integers(0, 256, (16384, 4))
    up, down = (((moved := patches + step * np.array([1, -1, -1, 1])) >= 0) & (moved <= 255) for step in (1, -1))
    assert found.patches_unique_uniform == (~(up.all(1) | down.all(1))).mean()


def test_coarser_strides_of_dct_add_nothing():
    assert essential([dct(64, stride) for stride in (8, 4, 2)]) == essential([dct(64, 2)])
    assert essential([dct(64, 2), outputs_on(64, 64, 8, np.ones((1, 64), np.int64))]) == essential([dct(64, 2)])
    assert len(essential([dct(64, 2), dct(128, 2)])) == 2  # of other images


def test_pairs_of_pixels_packed_into_one_output_are_read_off_it():
    """1 * a + 256 * b: rank 8 of 16, and all 16 pixels exactly. With 255 all but the ends of the range."""
    assert disclosure([on_pairs(128, 1, 256)]) == Disclosure(1.0, 1.0, 1.0, 1.0, 1.0, 4, 4)
    nearly = disclosure([on_pairs(128, 1, 255)])
    assert nearly.pixels_determined_uniform > 0.95 and nearly.patches_unique_uniform < 1 and nearly.worst_pixel == 1


def test_single_pixels_are_given_away_though_no_patch_has_one_solution():
    found = disclosure([Outputs(128, 128, 2, PIXELS)])
    assert (found.worst_pixel, found.pixels_determined_uniform, found.patches_unique_uniform) == (1.0, 0.75, 0.0)


@pytest.mark.parametrize("weight, values", [(191, 2), (128, 2), (64, 4), (32, 8), (16, 16), (8, 32)])
def test_a_pixel_with_few_values_counts_as_given_away(weight, values):
    """1 * a + 128 * b determines no pixel, but has two solutions, and the smoother one is nearly always the picture."""
    found = disclosure([Outputs(64, 64, 2, ((1, weight, 0, 0), (0, 0, 1, weight)))])
    assert found.worst_pixel == 1 if values <= FEW_VALUES else found.worst_pixel < 0.05
    pairs = area_mean(np.stack(module._films()), 64).reshape(-1, 2).astype(int)
    first = np.arange(256)
    second, rest = np.divmod((pairs @ [1, weight])[:, None] - first, weight)
    possible = (rest == 0) & (second >= 0) & (second <= 255)
    assert possible.sum(1).max() == values
    if values == 2:
        rough = np.where(possible, abs(first - second), 999)
        assert (rough.argmin(1) == pairs[:, 0]).mean() > 0.97


def test_two_strides_together_tell_what_neither_does_alone():
    fine = dct(128, 2)
    coarse = outputs_on(128, 128, 4, np.random.default_rng(1).integers(-3, 4, (3, 16)))
    assert max(disclosure([fine]).worst_pixel, disclosure([coarse]).worst_pixel) < 0.05
    together = disclosure([coarse, fine])
    assert together.worst_pixel > 0.5 and (together.patch_height, together.patch_width) == (4, 4)


def test_two_sizes_together_tell_what_neither_does_alone():
    """Differences of the pixels of a patch leave its mean open; the image of half the size is that mean."""
    fine, coarse = Outputs(256, 256, 2, DIFFERENCES), Outputs(128, 128, 2, PIXELS)
    assert disclosure([fine]).worst_pixel < 0.95
    assert disclosure([fine, coarse]).worst_pixel == 1
    assert disclosure([fine, dct(128, 2)]).worst_pixel < 0.1  # of four means three sums: open
    assert disclosure([dct(256, 2), dct(128, 2)]).worst_pixel < 0.01


def test_means_and_remainders_are_those_of_the_images():
    tile = Tile([dct(64, 2), dct(192, 2)])
    pixels = np.random.default_rng(0).integers(0, 256, (5, tile.height, tile.width))
    values = tile._values(pixels.reshape(5, -1))
    (means, remainders, areas), *_ = tile.means
    expected = area_mean(np.ascontiguousarray(pixels, np.uint8), tile.height // 3).reshape(5, -1).astype(int)
    np.testing.assert_array_equal(values[:, remainders], pixels.reshape(5, -1)[:, areas].sum(2) - 9 * expected)
    low, high = np.array(tile.ranges)[remainders].T
    assert ((low <= values[:, remainders]) & (values[:, remainders] <= high)).all() and means.stop == remainders.start


def test_images_that_are_not_square():
    found = disclosure([outputs_on(64, 96, 2, dct_filters(2, 3, 4)), outputs_on(32, 48, 2, dct_filters(2, 3, 4))])
    assert (found.patch_height, found.patch_width) == (4, 4) and found.worst_pixel < 0.01


def test_too_large_a_patch_is_not_decided():
    with pytest.raises(Undecided, match=r"share patches of .* unknowns, and 1000 are the most that are looked at"):
        disclosure([dct(128, 8), dct(97, 8)])


def test_too_much_work_is_not_decided(monkeypatch):
    """The bound is on programs and nodes, so it does not depend on the machine."""
    outputs = [Outputs(128, 128, 2, ((1, 2, 3, 5),))]
    assert disclosure(outputs).worst_pixel < 0.5
    monkeypatch.setattr(module, "NUM_KEPT", 0)
    monkeypatch.setattr(_Work, "__init__", lambda self: setattr(self, "programs", 3) or setattr(self, "nodes", 10))
    with pytest.raises(Undecided, match="integer programs of 10000 nodes together, the most that are solved, were not enough"):
        disclosure(outputs)
