"""Augmentation moves pixels and invents none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdl.training.networks.augment import Augmentation

IMAGES = np.arange(2 * 8 * 10, dtype=np.uint8).reshape(2, 8, 10)


def moved(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Shift by whole pixels the slow way: pad with the edge, cut out."""
    height, width = image.shape[:2]
    pad = [(abs(dy), abs(dy)), (abs(dx), abs(dx))] + [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, pad, mode="edge")
    return padded[abs(dy) + dy : abs(dy) + dy + height, abs(dx) + dx : abs(dx) + dx + width]


def all_moves(image: np.ndarray, most_y: int, most_x: int, mirrors: tuple[bool, ...]) -> list[bytes]:
    shifted = [moved(image, dy, dx) for dy in range(-most_y, most_y + 1) for dx in range(-most_x, most_x + 1)]
    return [(s[:, ::-1] if m else s).tobytes() for s in shifted for m in mirrors]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), channels=st.sampled_from([None, 3]), flip=st.booleans(), shift=st.sampled_from([0.0, 0.13, 0.25]))
def test_every_result_is_a_shift_with_repeated_edges_perhaps_mirrored(seed, channels, flip, shift):
    shape = (3, 8, 10) if channels is None else (3, 8, 10, channels)
    images = np.random.default_rng(0).integers(0, 2**16, shape).astype(np.int32)
    out = Augmentation(flip=flip, shift=shift)(images, np.random.default_rng(seed))
    assert (out.shape, out.dtype) == (images.shape, images.dtype)
    for before, after in zip(images, out, strict=True):
        assert after.tobytes() in all_moves(before, int(shift * 8), int(shift * 10), (False, True) if flip else (False,))


def test_all_shifts_and_both_mirrors_occur():
    augment = Augmentation(flip=True, shift=0.125)
    rng = np.random.default_rng(1)
    seen = {augment(IMAGES[:1], rng)[0].tobytes() for _ in range(400)}
    assert seen == set(all_moves(IMAGES[0], 1, 1, (False, True)))


def test_nothing_asked_changes_nothing_and_the_input_is_left_alone():
    before = IMAGES.copy()
    out = Augmentation(flip=False, shift=0.0)(IMAGES, np.random.default_rng(2))
    np.testing.assert_array_equal(out, IMAGES)
    Augmentation(flip=True, shift=0.3)(IMAGES, np.random.default_rng(2))
    np.testing.assert_array_equal(IMAGES, before)


@pytest.mark.parametrize("flip", [True, False])
def test_the_generator_decides(flip):
    augment = Augmentation(flip=flip, shift=0.3)
    first, again, other = (augment(IMAGES, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
