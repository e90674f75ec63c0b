"""The images that schemes are tried on, and how an attack is tried on what a scheme makes of them."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from ppdl.audit.examination.base import KnownImages, Symbols, Target, Truth
from ppdl.datasets.phantoms.film import CLASS_NAMES, render

SIZE_PX = 64


@functools.cache
def films(seed: int, count: int, size_px: int = SIZE_PX) -> np.ndarray:
    """Draw phantoms of `count` patients: (count, size_px, size_px) uint8. Cost: about 2 ms each at 64 px."""
    return np.stack([render(seed, CLASS_NAMES[i % len(CLASS_NAMES)], i // len(CLASS_NAMES), 0, size_px) for i in range(count)])


def collimated(seed: int, count: int, size_px: int = SIZE_PX) -> np.ndarray:
    """Draw the same films with a black border, as a collimator leaves it: each side up to an eighth of the film, of its own width.

    Without any border no block of 16 pixels occurs twice, since all of a phantom has noise; in archives most films have a border.
    """
    images, rng = films(seed, count, size_px).copy(), np.random.default_rng([seed, count])
    for image in images:
        top, bottom, left, right = rng.integers(0, size_px // 8 + 1, 4)
        image[:top], image[size_px - bottom :], image[:, :left], image[:, size_px - right :] = 0, 0, 0, 0
    return images


def noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what a secure cipher would look like."""
    return rng.integers(0, 256, images.shape, dtype=np.uint8)


def target(picture: np.ndarray, prior: np.ndarray | None) -> Target:
    """Return what a thief has who finds the pictures."""
    gray = picture[..., 1] if picture.ndim == 4 else picture
    return Target("folder", *gray.shape, symbols=Symbols(gray, 256, None), picture=picture, prior=prior)


def with_known(found: Target, images: np.ndarray, known: np.ndarray | None = None) -> Target:
    """Give an attacker some images in the clear, 20 in no order by default."""
    rows = np.random.default_rng(4).permutation(len(images))[:20] if known is None else known
    return replace(found, known=KnownImages(rows, images[rows]))


def examine(attack, picture: np.ndarray, images: np.ndarray, seed: int = 0):
    """Attack a picture of images with public images of other people at hand."""
    return attack.examine(target(picture, films(9, 100, images.shape[1])), Truth(images), np.random.default_rng(seed))
