"""The area mean against a plain integer reference."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ppdl.datasets.prepared import resize
from ppdl.datasets.prepared.resize import area_mean, area_resize
from ppdl.errors import ConfigError


@st.composite
def stacks(draw):
    px, factor, num_images = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(0, 3))
    return draw(arrays(np.uint8, (num_images, px * factor, px * factor))), px


@settings(max_examples=60, deadline=None)
@given(stacks())
def test_area_mean_is_the_rounded_mean_of_each_patch(stack):
    images, px = stack
    factor = images.shape[1] // px
    means = area_mean(images, px)
    assert means.dtype == np.uint8 and means.shape == (len(images), px, px)
    for i, y, x in np.ndindex(means.shape):
        patch = [int(v) for v in images[i, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor].flat]
        assert means[i, y, x] == (2 * sum(patch) + len(patch)) // (2 * len(patch))  # round half up


def test_halves_round_up():
    assert area_mean(np.array([[[0, 1], [1, 0]]], np.uint8), 1) == 1
    assert area_mean(np.array([[[2, 3], [3, 2]]], np.uint8), 1) == 3  # numpy's round would give 2


def test_area_mean_does_not_depend_on_the_chunks(monkeypatch, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 12, 12), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    whole = area_mean(images, 4)
    monkeypatch.setattr(resize, "_CHUNK_VALUES", 12 * 12 * 2)
    assert np.array_equal(area_mean(np.load(tmp_path / "images.npy", mmap_mode="r"), 4), whole)


def test_the_same_size_costs_nothing():
    images = np.zeros((2, 6, 6), np.uint8)
    assert area_mean(images, 6) is images


@pytest.mark.parametrize("px", [0, 5, 16])
def test_a_size_that_does_not_divide_is_refused(px):
    with pytest.raises(ConfigError, match=f"a size of {px} px needs prepared images whose size is a multiple of it, got 8 px"):
        area_mean(np.zeros((1, 8, 8), np.uint8), px)


@pytest.mark.parametrize("images", [np.zeros((8, 8), np.uint8), np.zeros((1, 8, 6), np.uint8), np.zeros((1, 8, 8), np.float32)])
def test_other_arrays_are_refused(images):
    with pytest.raises(ConfigError, match="area_mean takes"):
        area_mean(images, 2)


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(1, 7))
def test_area_resize_is_the_exact_mean_of_the_covered_area(image, px):
    height, width = image.shape
    resized = area_resize(image, px)
    assert resized.dtype == np.uint8 and resized.shape == (px, px) and resized.flags.c_contiguous
    for y, x in np.ndindex(px, px):
        total = Fraction(0)
        for i, j in np.ndindex(image.shape):
            rows = min(Fraction(i + 1, height), Fraction(y + 1, px)) - max(Fraction(i, height), Fraction(y, px))
            columns = min(Fraction(j + 1, width), Fraction(x + 1, px)) - max(Fraction(j, width), Fraction(x, px))
            total += max(rows, 0) * max(columns, 0) * int(image[i, j])
        assert resized[y, x] == (total * px * px + Fraction(1, 2)) // 1


def test_both_agree_where_the_factor_is_whole():
    image = np.random.default_rng(0).integers(0, 256, (36, 36), dtype=np.uint8)
    assert np.array_equal(area_resize(image, 12), area_mean(image[None], 12)[0])


def test_a_large_white_image_does_not_overflow():
    assert (area_resize(np.full((40000, 700), 255, np.uint8), 3) == 255).all()
