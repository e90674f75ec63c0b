"""Wrong images: as many as films, of their size, and none of them a film."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.datasets.phantoms.film import render
from ppdl.datasets.phantoms.wrong import KINDS


@pytest.fixture(scope="module")
def films():
    return np.stack([render(1, "Normal", patient, 0, 64) for patient in range(3)])


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_other_images_of_the_same_shape_and_the_same_for_the_same_seed(films, kind):
    before = films.copy()
    first, again = (KINDS[kind](films, np.random.default_rng(2)) for _ in range(2))
    assert first.shape == films.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(films, before)
    assert all((wrong != film).mean() > 0.3 for wrong, film in zip(first, films, strict=True))


@pytest.mark.parametrize("kind", ["inverted", "upside_down"])
def test_twice_is_the_film_again(films, kind):
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(KINDS[kind](KINDS[kind](films, rng), rng), films)


def test_a_turned_film_has_the_film_s_gray_values(films):
    np.testing.assert_array_equal(np.sort(KINDS["turned"](films, np.random.default_rng(0)), axis=None), np.sort(films, axis=None))
