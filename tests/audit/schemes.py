"""Published ways to "encrypt" images, each by its published rule, and the images they are tried on."""

from __future__ import annotations

import functools

import numpy as np

from ppdl.audit.examination.base import Symbols, Target, Truth
from ppdl.datasets.phantoms.film import CLASS_NAMES, render

SIZE_PX = 64


@functools.cache
def films(seed: int, count: int, size_px: int = SIZE_PX) -> np.ndarray:
    """Draw phantoms of `count` patients: (count, size_px, size_px) uint8. Cost: about 2 ms each at 64 px."""
    return np.stack([render(seed, CLASS_NAMES[i % len(CLASS_NAMES)], i // len(CLASS_NAMES), 0, size_px) for i in range(count)])


def negative_positive(images: np.ndarray, rng: np.random.Generator, *, one_key: bool = True) -> np.ndarray:
    """Replace v by 255 - v where a key bit is 1, one bit a pixel.

    Source: W. Sirichotedumrong, Y. Kinoshita and H. Kiya, "Pixel-based image encryption without key management for privacy-preserving
    deep neural networks", IEEE Access 7, 2019, for one channel; after M. Tanaka, "Learnable image encryption", ICCE-TW 2018.
    """
    key = rng.integers(0, 2, images.shape[1:] if one_key else images.shape, dtype=np.uint8)
    return np.where(key == 1, 255 - images, images)


def negative_positive_colour(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Do the same for three equal channels, each with its own key bits, and shuffle the channels of each pixel: (n, h, w, 3).

    Source: as `negative_positive`, with its colour component shuffling.
    """
    key = rng.integers(0, 2, (*images.shape[1:], 3), dtype=np.uint8)
    shuffle = rng.permuted(np.broadcast_to(np.arange(3), key.shape), axis=2)
    colour = np.repeat(images[..., None], 3, axis=3)
    colour = np.where(key == 1, 255 - colour, colour)
    return np.take_along_axis(colour, np.broadcast_to(shuffle, colour.shape), axis=3)


def block_scrambling(
    images: np.ndarray, rng: np.random.Generator, *, block_px: int = 8, turn: bool = True, one_key: bool = True
) -> np.ndarray:
    """Permute blocks, then turn and mirror each, then replace its pixels v by 255 - v where its key bit is 1 (`turn`: the last two too).

    Source: K. Kurihara et al., "An encryption-then-compression system for JPEG/Motion JPEG standard", IEICE Trans. Fundamentals
    E98-A(11), 2015; T. Chuman, W. Sirichotedumrong and H. Kiya, "Encryption-then-compression systems using grayscale-based image
    encryption for JPEG images", IEEE TIFS 14(6), 2019, for one channel.
    """
    if not one_key:
        return np.concatenate([block_scrambling(image[None], rng, block_px=block_px, turn=turn) for image in images])
    n, height, width = images.shape
    rows, columns = height // block_px, width // block_px
    blocks = images.reshape(n, rows, block_px, columns, block_px).transpose(1, 3, 0, 2, 4).reshape(-1, n, block_px, block_px)
    blocks = blocks[rng.permutation(len(blocks))]
    if turn:
        for k in range(len(blocks)):
            block = np.rot90(blocks[k], rng.integers(4), (1, 2))
            block = block[:, :, ::-1] if rng.integers(2) else block
            blocks[k] = 255 - block if rng.integers(2) else block
    return blocks.reshape(rows, columns, n, block_px, block_px).transpose(2, 0, 3, 1, 4).reshape(images.shape)


def paillier_without_randomness(images: np.ndarray) -> np.ndarray:
    """Encrypt each pixel by c = (1 + n)^m r^n mod n^2 with r = 1, and scale ciphertexts to 0..255 by their least and largest.

    Since (1 + n)^m = 1 + m n, scaling returns the image, stretched to the full range.

    Source: P. Paillier, EUROCRYPT 1999, scheme 1, as notebooks use it that need pictures of ciphertexts for a network.
    """
    n = (2**127 - 1) * (2**521 - 1)
    ciphertexts = [pow(1 + n, m, n * n) * pow(1, n, n * n) % (n * n) for m in range(256)]
    used = np.unique(images)
    low, high = ciphertexts[used[0]], ciphertexts[used[-1]]
    table = np.array([min(max((c - low) * 255 // (high - low), 0), 255) for c in ciphertexts], np.uint8)
    return table[images]


def noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what a secure cipher would look like."""
    return rng.integers(0, 256, images.shape, dtype=np.uint8)


def target(picture: np.ndarray, prior: np.ndarray | None) -> Target:
    """Return what a thief has who finds the pictures."""
    gray = picture[..., 1] if picture.ndim == 4 else picture
    return Target("folder", *gray.shape, symbols=Symbols(gray, 256, None), picture=picture, prior=prior)


def examine(attack, picture: np.ndarray, images: np.ndarray, seed: int = 0):
    """Attack a picture of images with public images of other people at hand."""
    return attack.examine(target(picture, films(9, 100)), Truth(images), np.random.default_rng(seed))
