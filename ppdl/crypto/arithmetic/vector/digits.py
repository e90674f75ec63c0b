"""Numbers as digits in base 2^52, and back, many at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.vector.emit import RADIX_BITS, TILE

_SLACK_BITS = 8  # R >= 256 m, see emit.py
_PAIR_BYTES = 2 * RADIX_BITS // 8  # two digits are 13 bytes
_MASK = np.uint64((1 << RADIX_BITS) - 1)


def num_digits_for(bits: int) -> int:
    """Return how many digits hold numbers of `bits` bits with the slack that products need: a multiple of 10."""
    return -(-(bits + _SLACK_BITS) // (RADIX_BITS * TILE)) * TILE


def to_digits(numbers: Sequence[mpz], num_digits: int) -> np.ndarray:
    """Write numbers below 2^(52 num_digits) as uint64 (num_numbers, num_digits), num_digits even, the lowest digit first."""
    size = num_digits // 2 * _PAIR_BYTES
    data = b"".join([x.to_bytes(size, "little") for x in numbers])
    return _cut(np.frombuffer(data, np.uint8).reshape(len(numbers), size))


def bytes_to_digits(array: np.ndarray, num_digits: int) -> np.ndarray:
    """Write numbers, uint8 (num_numbers, num_bytes) big-endian, as to_digits does."""
    padded = np.zeros((len(array), num_digits // 2 * _PAIR_BYTES), np.uint8)
    padded[:, : array.shape[1]] = array[:, ::-1]
    return _cut(padded)


def from_digits(digits: np.ndarray) -> list[mpz]:
    """Read numbers from uint64 (num_numbers, num_digits), num_digits even, each digit below 2^52."""
    low, high = digits[:, ::2], digits[:, 1::2]
    words = np.empty((*low.shape, 2), "<u8")
    words[..., 0] = low | high << np.uint64(RADIX_BITS)
    words[..., 1] = high >> np.uint64(64 - RADIX_BITS)
    data = np.ascontiguousarray(words.view(np.uint8)[..., :_PAIR_BYTES]).tobytes()
    size = low.shape[1] * _PAIR_BYTES
    return [mpz.from_bytes(data[start : start + size], "little") for start in range(0, len(data), size)]


def _cut(array: np.ndarray) -> np.ndarray:
    """Cut uint8 (num_numbers, a multiple of 13), little-endian, into digits."""
    pairs = array.reshape(len(array), -1, _PAIR_BYTES)
    words = np.zeros((*pairs.shape[:2], 2, 8), np.uint8)
    words[:, :, 0, :7], words[:, :, 1, :7] = pairs[:, :, :7], pairs[:, :, 6:]
    digits = words.view("<u8")[..., 0]
    digits[:, :, 0] &= _MASK
    digits[:, :, 1] >>= np.uint64(4)
    return digits.reshape(len(array), -1)
