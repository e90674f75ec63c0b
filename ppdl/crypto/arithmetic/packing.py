"""Pack many small numbers into one Paillier plaintext, vectorised in numpy both ways.

`DensePacking` puts 8-bit pixels side by side: the fewest bytes a pixel, for storing and decrypting only.
`SlotPacking` puts signed numbers into slots of slot_bits bits with room to compute: adding plaintexts adds slot by
slot, as long as no slot leaves its range. Neither ciphertexts nor decryption can see a slot that did, so
`check_linear_bound` proves it impossible before anything runs.
`WidePacking` puts numbers of 0 and above into slots of up to 63 bits, for sums of many parties.

Value i of a plaintext has the weight 2^(i * slot_bits): the first value is the least significant. HEADROOM_BITS of
the key stay unused, so that a plaintext, negative ones included, stays far from n / 2 and tells a wrong key or an
overflow by being out of range.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.keys.keypair import PublicKey
from ppdl.errors import CryptoError

HEADROOM_BITS = 8
LARGEST_SLOT_BITS = 32
_CHUNK_VALUES = 1 << 18  # values that are spread into bits at a time: bounds the temporary memory to about 10 MiB


@dataclass(frozen=True)
class DensePacking:
    """Put (key_bits - 8) // 8 pixels of 8 bits into a plaintext: 255 at 2048 bits, 383 at 3072.

    Raises: CryptoError when the key is too short for one pixel.
    """

    key_bits: int

    def __post_init__(self) -> None:
        if self.values_per_plaintext < 1:
            raise CryptoError(f"key_bits must be at least {8 + HEADROOM_BITS} to pack a pixel, got {self.key_bits}")

    @property
    def values_per_plaintext(self) -> int:
        return (self.key_bits - HEADROOM_BITS) // 8

    def num_plaintexts(self, num_values: int) -> int:
        return -(-num_values // self.values_per_plaintext)

    def pack(self, values: np.ndarray) -> list[mpz]:
        """Pack uint8 values (num_values,) into plaintexts; the last one is padded with zeros.

        Raises: CryptoError for another type or shape.
        """
        if values.dtype != np.uint8 or values.ndim != 1:
            raise CryptoError(f"dense packing takes uint8 (num_values,), got {values.dtype} {values.shape}")
        size, data = self.values_per_plaintext, values.tobytes()
        return [mpz.from_bytes(data[start : start + size], "little") for start in range(0, len(data), size)]

    def unpack(self, plaintexts: Sequence[mpz], num_values: int) -> np.ndarray:
        """Unpack the first num_values pixels: uint8 (num_values,).

        Raises: CryptoError when there are not exactly num_plaintexts(num_values) of them, or one exceeds the packing
            (wrong key, damage).
        """
        _check_count(self, plaintexts, num_values)
        rows = _to_rows(plaintexts, self.values_per_plaintext, 8 * self.values_per_plaintext)
        return rows.reshape(-1)[:num_values]


@dataclass(frozen=True)
class _Slots:
    """Count the slots of slot_bits bits, from 2 to `largest_slot_bits`, that a plaintext has room for."""

    key_bits: int
    slot_bits: int
    largest_slot_bits: ClassVar[int]

    def __post_init__(self) -> None:
        if not 2 <= self.slot_bits <= self.largest_slot_bits:
            raise CryptoError(f"slot_bits must be 2 to {self.largest_slot_bits}, got {self.slot_bits}")
        if self.values_per_plaintext < 1:
            least = self.slot_bits + HEADROOM_BITS
            raise CryptoError(f"key_bits must be at least slot_bits + {HEADROOM_BITS} = {least}, got {self.key_bits}")

    @property
    def values_per_plaintext(self) -> int:
        return (self.key_bits - HEADROOM_BITS) // self.slot_bits

    def num_plaintexts(self, num_values: int) -> int:
        return -(-num_values // self.values_per_plaintext)


class SlotPacking(_Slots):
    """Put (key_bits - 8) // slot_bits signed slots into a plaintext: 102 slots of 20 bits at 2048 bits, 153 at 3072.

    A slot holds [-2^(slot_bits - 1), 2^(slot_bits - 1)). A negative sum of slots is written mod n.

    Raises: CryptoError when slot_bits is not in 2 to 32, or the key is too short for one slot.
    """

    largest_slot_bits = LARGEST_SLOT_BITS

    @property
    def smallest(self) -> int:
        return -(1 << (self.slot_bits - 1))

    @property
    def largest(self) -> int:
        return (1 << (self.slot_bits - 1)) - 1

    def pack(self, values: np.ndarray, public_key: PublicKey) -> list[mpz]:
        """Pack integers (num_values,) into plaintexts in [0, n); the last one is padded with zeros.

        Raises: CryptoError when a value does not fit its slot (its position is told, not the value), or for another
            type or shape.
        """
        if values.dtype.kind not in "iu" or values.ndim != 1:
            raise CryptoError(f"slot packing takes integers (num_values,), got {values.dtype} {values.shape}")
        if values.size and not (self.smallest <= values.min() and values.max() <= self.largest):
            position = int(np.argmax((values < self.smallest) | (values > self.largest)))
            raise CryptoError(f"value {position} does not fit a signed slot of {self.slot_bits} bits ({self.smallest} to {self.largest})")
        n, offset = mpz(self._check_key(public_key).n), self._offset
        rows = _spread(values, self.values_per_plaintext, self.slot_bits, raised_by=1 << (self.slot_bits - 1))
        plaintexts = [mpz.from_bytes(row, "little") - offset for row in rows]
        return [m if m >= 0 else m + n for m in plaintexts]

    def unpack(self, plaintexts: Sequence[mpz], num_values: int, public_key: PublicKey) -> np.ndarray:
        """Unpack the first num_values slots: int64 (num_values,).

        Raises: CryptoError when there are not exactly num_plaintexts(num_values) of them, or one exceeds the packing
            (wrong key, damage, or an overflow of the last slot).
        """
        _check_count(self, plaintexts, num_values)
        n, offset = mpz(self._check_key(public_key).n), self._offset
        half, used_bits = n // 2, self.slot_bits * self.values_per_plaintext
        shifted = [(m if m <= half else m - n) + offset for m in plaintexts]
        rows = _to_rows(shifted, (used_bits + 7) // 8, used_bits)
        return _gather(rows, self.values_per_plaintext, self.slot_bits).reshape(-1)[:num_values] - (1 << (self.slot_bits - 1))

    @property
    def _offset(self) -> mpz:
        """2^(slot_bits - 1) in every slot: added, it makes every slot non-negative."""
        ones = ((mpz(1) << (self.slot_bits * self.values_per_plaintext)) - 1) // ((1 << self.slot_bits) - 1)
        return ones << (self.slot_bits - 1)

    def _check_key(self, public_key: PublicKey) -> PublicKey:
        if public_key.key_bits != self.key_bits:
            raise CryptoError(f"the packing is for a {self.key_bits}-bit key, got one of {public_key.key_bits} bits")
        return public_key


class WidePacking(_Slots):
    """Put (key_bits - 8) // slot_bits unsigned slots into a plaintext: 58 slots of 35 bits at 2048 bits.

    A slot holds [0, 2^slot_bits). Slots beyond the last value are 0, and `unpack` refuses others.

    Raises: CryptoError when slot_bits is not in 2 to 63, or the key is too short for one slot.
    """

    largest_slot_bits = 63

    def pack(self, values: np.ndarray) -> list[mpz]:
        """Pack integers (num_values,) into plaintexts.

        Raises: CryptoError when a value does not fit its slot (its position is told, not the value), or for another type or shape.
        """
        if values.dtype.kind not in "iu" or values.ndim != 1:
            raise CryptoError(f"wide packing takes integers (num_values,), got {values.dtype} {values.shape}")
        if values.size and not (values.min() >= 0 and int(values.max()) < 1 << self.slot_bits):
            position = int(np.argmax((values < 0) | (values > (1 << self.slot_bits) - 1)))
            raise CryptoError(f"value {position} does not fit an unsigned slot of {self.slot_bits} bits")
        return [mpz.from_bytes(row, "little") for row in _spread(values, self.values_per_plaintext, self.slot_bits)]

    def unpack(self, plaintexts: Sequence[mpz], num_values: int) -> np.ndarray:
        """Unpack num_values slots: int64 (num_values,).

        Raises: CryptoError when there are not exactly num_plaintexts(num_values) of them, one exceeds the packing, or a slot beyond the
            values is not 0 (wrong key, damage, or an overflow).
        """
        _check_count(self, plaintexts, num_values)
        used_bits = self.slot_bits * self.values_per_plaintext
        slots = _gather(_to_rows(plaintexts, (used_bits + 7) // 8, used_bits), self.values_per_plaintext, self.slot_bits).reshape(-1)
        if slots[num_values:].any():
            raise CryptoError("a slot beyond the values is not 0: wrong private key, damage or an overflow")
        return slots[:num_values]


def _word(bits: int) -> np.dtype:
    """Return the smaller of two words that holds a slot: half the bytes are half the time."""
    return np.dtype("<u4" if bits <= 32 else "<u8")


def _spread(values: np.ndarray, slots: int, bits: int, *, raised_by: int = 0) -> list[bytes]:
    """Write values + `raised_by`, none below 0, as little-endian bit rows, `slots` of them a row: bytes of each plaintext."""
    rows_per_chunk, word = max(1, _CHUNK_VALUES // slots), _word(bits)
    result: list[bytes] = []
    for start in range(0, len(values), rows_per_chunk * slots):
        chunk = values[start : start + rows_per_chunk * slots].astype(np.int64)
        chunk = np.pad(chunk, (0, -len(chunk) % slots)) + raised_by
        octets = chunk.astype(word).view(np.uint8).reshape(-1, word.itemsize)
        spread = np.unpackbits(octets, axis=1, bitorder="little", count=bits)
        result.extend(map(bytes, np.packbits(spread.reshape(-1, slots * bits), axis=1, bitorder="little")))
    return result


def _gather(rows: np.ndarray, slots: int, bits: int) -> np.ndarray:
    """Read little-endian bit rows (num_plaintexts, num_bytes) as numbers: int64 (num_plaintexts, slots)."""
    result, word = np.empty((len(rows), slots), np.int64), _word(bits)
    rows_per_chunk = max(1, _CHUNK_VALUES // slots)
    for start in range(0, len(rows), rows_per_chunk):
        chunk = rows[start : start + rows_per_chunk]
        spread = np.unpackbits(chunk, axis=1, bitorder="little", count=slots * bits).reshape(-1, bits)
        packed = np.zeros((len(spread), word.itemsize), np.uint8)
        packed[:, : (bits + 7) // 8] = np.packbits(spread, axis=1, bitorder="little")
        result[start : start + len(chunk)] = packed.view(word).reshape(-1, slots)
    return result


def linear_bound(weights: np.ndarray, max_value: int) -> int:
    """Return the largest absolute value that a row of weights (num_filters, num_inputs) can reach on inputs in [-max_value, max_value]."""
    return max(sum(abs(int(w)) for w in row) for row in np.asarray(weights).reshape(len(weights), -1)) * int(max_value)


def smallest_slot_bits(weights: np.ndarray, max_value: int) -> int:
    """Return the fewest slot bits that check_linear_bound accepts: every bit less is decryption saved."""
    return max(2, linear_bound(weights, max_value).bit_length() + 1)


def check_linear_bound(weights: np.ndarray, max_value: int, slot_bits: int) -> None:
    """Refuse a linear map that could leave its slots: sum |w| * max_value must be below 2^(slot_bits - 1) for every filter.

    Raises: CryptoError with the bound and the slot_bits that would do.
    """
    bound = linear_bound(weights, max_value)
    if bound >= 1 << (slot_bits - 1):
        raise CryptoError(
            f"slot_bits={slot_bits} holds less than {1 << (slot_bits - 1)}, but sum |weights| * {max_value} reaches {bound}: "
            f"a slot would overflow silently; use slot_bits >= {smallest_slot_bits(weights, max_value)} or smaller weights"
        )


def _check_count(packing: DensePacking | _Slots, plaintexts: Sequence[mpz], num_values: int) -> None:
    expected = packing.num_plaintexts(num_values)
    if len(plaintexts) != expected:
        raise CryptoError(f"{num_values} values are packed in {expected} plaintexts, got {len(plaintexts)}")


def _to_rows(plaintexts: Sequence[mpz], row_bytes: int, used_bits: int) -> np.ndarray:
    """Write plaintexts as uint8 (num_plaintexts, row_bytes), little-endian; refuse what needs more than used_bits."""
    if len(plaintexts) and not (min(plaintexts) >= 0 and max(plaintexts) < mpz(1) << used_bits):
        position = next(i for i, m in enumerate(plaintexts) if not 0 <= m < mpz(1) << used_bits)
        raise CryptoError(f"plaintext {position} exceeds the packing ({used_bits} bits): wrong private key, damage or an overflow")
    data = b"".join([mpz(m).to_bytes(row_bytes, "little") for m in plaintexts])
    return np.frombuffer(bytearray(data), np.uint8).reshape(len(plaintexts), row_bytes)
