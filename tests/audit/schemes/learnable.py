"""Encryption that a network should learn from, encryption before compression, and encryption of a part. Conventions as in `pads`."""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, idctn


def negative_positive(images: np.ndarray, rng: np.random.Generator, *, one_key: bool = True, decrypt: bool = False) -> np.ndarray:
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


def learnable(images: np.ndarray, rng: np.random.Generator, *, decrypt: bool = False) -> np.ndarray:
    """Split the pixels of a 4 x 4 block into upper and lower four bits, invert some and shuffle all, alike in all blocks and images.

    Source: M. Tanaka, Learnable image encryption, ICCE-TW 2018, for one channel: 32 values a block. Broken: A. Chang and B. Case, Attacks
    on image encryption schemes for privacy-preserving deep neural networks, arXiv:2004.13263, 2020.
    """
    n, height, width = images.shape
    inverted, order = rng.integers(0, 2, 32, dtype=np.uint8) * 15, rng.permutation(32)
    blocks = images.reshape(n, height // 4, 4, width // 4, 4).transpose(0, 1, 3, 2, 4).reshape(n, height // 4, width // 4, 16)
    halves = np.concatenate([blocks >> 4, blocks & 15], axis=-1)
    halves = halves[..., np.argsort(order)] ^ inverted if decrypt else (halves ^ inverted)[..., order]
    blocks = (halves[..., :16] << 4 | halves[..., 16:]).reshape(n, height // 4, width // 4, 4, 4)
    return blocks.transpose(0, 1, 3, 2, 4).reshape(images.shape)


def bit_planes(images: np.ndarray, rng: np.random.Generator, *, mask: int, decrypt: bool = False) -> np.ndarray:
    """XOR the bits under `mask` with fresh random bits, and leave the others in the clear.

    Source: M. Podesser, H.-P. Schmidt and A. Uhl, Selective bitplane encryption for secure transmission of image data in mobile
    environments, NORSIG 2002. One plane is undone by trying both values, they find; four look safe and still are not all noise.
    """
    return images ^ (rng.integers(0, 256, images.shape, dtype=np.uint8) & np.uint8(mask))


def dct_signs(images: np.ndarray, rng: np.random.Generator, *, fresh: bool, decrypt: bool = False) -> np.ndarray:
    """Turn signs of 8 x 8 DCT coefficients by key bits: float32, decoded without clipping.

    Source: C. Shi and B. Bhargava, A fast MPEG video encryption algorithm, ACM Multimedia 1998, for the coefficients of JPEG. What the
    sizes alone give away: A. Said, Measuring the strength of partial encryption schemes, ICIP 2005.
    """
    n, height, width = images.shape
    signs = rng.integers(0, 2, (n if fresh else 1, height // 8, width // 8, 8, 8)) * 2 - 1
    values = images.astype(np.float64) - (0 if decrypt else 128)
    blocks = values.reshape(n, height // 8, 8, width // 8, 8).transpose(0, 1, 3, 2, 4)
    turned = idctn(signs * dctn(blocks, axes=(3, 4), norm="ortho"), axes=(3, 4), norm="ortho")
    result = turned.transpose(0, 1, 3, 2, 4).reshape(images.shape)
    return np.rint(result + 128).astype(np.uint8) if decrypt else result.astype(np.float32)
