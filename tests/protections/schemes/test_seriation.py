"""Seriation rebuilds the order of gray values from symbols alone, and says nothing where there is nothing to say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from ppdl.protections.schemes.seriation import co_occurrence, seriate, spectral_table

ROWS = np.arange(6)


def smooth_images(seed: int = 0, num_images: int = 6, px: int = 64) -> np.ndarray:
    """Bright centre on a dark rim, with smooth detail, over the whole range of values: what an X-ray is to a seriation."""
    rng = np.random.default_rng(seed)
    detail = gaussian_filter(rng.normal(size=(num_images, px, px)), (0, 3, 3))
    y, x = np.mgrid[-1 : 1 : px * 1j, -1 : 1 : px * 1j]
    field = 1.2 - x**2 - y**2 + 3 * detail
    field = (field - field.min()) / (field.max() - field.min())
    return np.round(field * 255).astype(np.uint8)


def encrypted(images: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    table = np.random.default_rng(seed).permutation(256).astype(np.uint8)
    return table[images], table


def test_co_occurrence_counts_each_neighbouring_pair_in_both_directions():
    image = np.array([[[0, 1, 1], [2, 0, 1]]])
    expected = np.array([[0, 3, 2], [3, 0, 0], [2, 0, 0]])  # 1-1 twice is on the diagonal, which is left empty
    np.testing.assert_array_equal(co_occurrence(image, np.array([0]), 3), expected)


def test_co_occurrence_reads_only_the_rows_it_is_given():
    images = np.stack([np.full((4, 4), 7), np.arange(16).reshape(4, 4)])
    assert co_occurrence(images, np.array([0]), 16).sum() == 0
    assert co_occurrence(images, np.array([0, 1]), 16).sum() == 2 * 24


def test_a_chain_is_ordered_whatever_its_names():
    names = np.random.default_rng(3).permutation(20)
    pairs = np.zeros((20, 20))
    for a, b in pairwise(names):
        pairs[a, b] = pairs[b, a] = 5
    order = seriate(pairs)
    assert list(order) in (list(names), list(names[::-1]))


def test_symbols_that_were_never_seen_are_left_out():
    pairs = np.zeros((9, 9))
    for a, b in ((4, 2), (2, 7), (7, 1)):
        pairs[a, b] = pairs[b, a] = 3
    assert sorted(seriate(pairs)) == [1, 2, 4, 7]


@pytest.mark.parametrize("num_images", [1, 6])
def test_the_table_gives_back_the_order_of_the_gray_values(num_images: int):
    images = smooth_images()
    symbols, table = encrypted(images)
    values = spectral_table(symbols, ROWS[:num_images], 256)
    seen = np.unique(images[:num_images])
    assert values.shape == (256, 1) and values.dtype == np.float32 and np.abs(values).max() <= 1
    assert spearmanr(values[table[seen], 0], seen)[0] > 0.99  # positive: the direction is resolved too


def test_the_table_depends_on_symbols_only_through_their_names():
    images = smooth_images()
    (first, a), (second, b) = encrypted(images, 1), encrypted(images, 2)
    np.testing.assert_allclose(spectral_table(first, ROWS, 256)[a], spectral_table(second, ROWS, 256)[b], atol=1e-6)


def test_noise_has_no_order_to_find():
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (6, 64, 64), dtype=np.uint8)
    symbols, table = encrypted(images)
    assert abs(spearmanr(spectral_table(symbols, ROWS, 256)[table, 0], np.arange(256))[0]) < 0.3


def test_a_constant_image_gives_a_table_all_the_same():
    table = spectral_table(np.full((2, 8, 8), 9, np.uint8), np.arange(2), 256)
    assert table.shape == (256, 1) and not table.any()
