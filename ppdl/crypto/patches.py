"""Pack images for a stem of non-overlapping patches, and read its outputs: a convolution whose kernel is as large as its stride.

Packing by phase: the pixels that have the same place (dy, dx) inside their patch form a plane; a plane's pixels,
patch after patch, fill the slots. One weight of a filter then multiplies a whole plane, and a filter is a sum of
stride^2 weighted planes (linear.py).

Patches are counted image by image, row by row: patch p of num_images * (height / stride) * (width / stride). Group g
holds the patches [g * slots, (g + 1) * slots). Input ciphertext g * stride^2 + dy * stride + dx holds pixel (dy, dx)
of the patches of group g; output ciphertext g * num_filters + f holds filter f of the same patches, in the same
slots. The last group is padded with zeros.
"""

import math
from collections.abc import Sequence

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.keys import PublicKey
from ppdl.crypto.packing import SlotPacking
from ppdl.errors import CryptoError


def pack_patches(packing: SlotPacking, images: np.ndarray, stride: int, public_key: PublicKey) -> list[mpz]:
    """Pack images by phase.

    Args:
        images: integers (num_images, height, width), height and width multiples of stride.
    Returns: num_groups * stride^2 plaintexts, num_groups = packing.num_plaintexts(number of patches).
    Raises: CryptoError when stride does not divide the size, or a pixel does not fit a slot.
    """
    num_images, height, width = images.shape
    if stride < 1 or height % stride or width % stride:
        raise CryptoError(f"stride must divide height and width, got stride {stride} for images of {height}x{width}")
    planes = images.reshape(num_images, height // stride, stride, width // stride, stride).transpose(2, 4, 0, 1, 3)
    packed = [packing.pack(plane.reshape(-1), public_key) for plane in planes.reshape(stride * stride, -1)]
    return [plaintext for group in zip(*packed, strict=True) for plaintext in group]


def unpack_patches(
    packing: SlotPacking,
    plaintexts: Sequence[mpz],
    shape: tuple[int, int, int, int],
    public_key: PublicKey,
) -> np.ndarray:
    """Unpack the outputs of a stem.

    Args:
        plaintexts: num_groups * num_filters, as apply_linear orders them.
        shape: (num_images, height / stride, width / stride, num_filters).
    Returns: int64 of that shape.
    Raises: CryptoError when the number of plaintexts does not fit the shape, or one exceeds the packing.
    """
    num_filters, num_patches = shape[3], math.prod(shape[:3])
    planes = [packing.unpack(plaintexts[f::num_filters], num_patches, public_key) for f in range(num_filters)]
    return np.stack(planes, axis=-1).reshape(shape)


def dct_filters(stride: int, num_filters: int, weight_bits: int) -> np.ndarray:
    """Build the num_filters lowest two-dimensional DCT-II components of a patch as small integers.

    Components are ordered by frequency (u + v, then u): mean, horizontal, vertical, then the rest. Each is scaled so
    that its largest weight is 2^(weight_bits - 1) - 1, rounded, and divided by its greatest common divisor (the mean
    becomes all ones).

    Returns: int64 (num_filters, stride^2), input dy * stride + dx.
    Raises: CryptoError when a patch has fewer components, or weight_bits is too small to show one.
    Source: N. Ahmed, T. Natarajan, K. Rao, "Discrete Cosine Transform", IEEE Transactions on Computers C-23, 1974.
    """
    if not 1 <= num_filters <= stride * stride:
        raise CryptoError(f"num_filters must be 1 to stride^2 = {stride * stride}, got {num_filters}")
    if not 2 <= weight_bits <= 16:
        raise CryptoError(f"weight_bits must be 2 to 16, got {weight_bits}")
    waves = np.cos(np.pi * np.outer(np.arange(stride), 2 * np.arange(stride) + 1) / (2 * stride))  # (frequency, place)
    order = sorted(np.ndindex(stride, stride), key=lambda uv: (sum(uv), uv[0]))[:num_filters]
    filters = np.stack([np.outer(waves[u], waves[v]).ravel() for u, v in order])
    scaled = filters / np.abs(filters).max(axis=1, keepdims=True) * (2 ** (weight_bits - 1) - 1)
    weights = np.rint(scaled).astype(np.int64)
    return weights // np.gcd.reduce(weights, axis=1)[:, None]
