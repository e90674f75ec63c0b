"""Raise one base to many exponents, with tables of its powers: fixed-base windows.

A table with windows of w bits holds 2^w powers for each window of the exponent, and an exponentiation is one multiplication a window. So
memory buys speed, up to where building the table costs more than it saves: choose_window_bits weighs both.

Source: E. Brickell, D. Gordon, K. McCurley, D. Wilson, "Fast exponentiation with precomputation", EUROCRYPT 1992.
"""

import secrets
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.engine import VECTOR, engine
from ppdl.errors import CryptoError

LARGEST_WINDOW_BITS = 16  # digits are uint16
_MPZ_OVERHEAD_BYTES = 64  # object, list entry and allocator, per table entry


class Windows:
    """Cut exponents of a fixed length into windows: digits are uint16 (num_windows, num_exponents), the lowest window first.

    The last window is narrower when window_bits does not divide exponent_bits.
    """

    def __init__(self, exponent_bits: int, window_bits: int) -> None:
        self.exponent_bits, self.window_bits = exponent_bits, window_bits
        self.widths = window_widths(exponent_bits, window_bits)

    def random_digits(self, num_exponents: int) -> np.ndarray:
        """Draw uniform exponents of exponent_bits bits from the operating system's randomness."""
        raw = secrets.token_bytes(2 * len(self.widths) * num_exponents)
        masks = np.array([(1 << width) - 1 for width in self.widths], np.uint16)
        return np.frombuffer(raw, np.uint16).reshape(len(self.widths), num_exponents) & masks[:, None]


class PowerTable(Protocol):
    """Raise one base to many exponents mod m^2."""

    @property
    def nbytes(self) -> int:
        """Bytes of the table's numbers."""

    def powers(self, digits: np.ndarray, plaintexts: Sequence[mpz] | None = None) -> list[mpz]:
        """Return base^a, or base^a (1 + m)^x with one x in [0, m) of `plaintexts` for each: in [0, m^2).

        Args:
            digits: uint16 (num_windows, num_exponents), as Windows cuts them.
        """


def build_power_table(base: mpz, m: mpz, windows: Windows) -> PowerTable:
    """Build the table of base mod m^2, with the engine of this process. Cost: one multiplication an entry."""
    if engine() == VECTOR:
        from ppdl.crypto.arithmetic.vector.fixed_base import FixedBase

        return FixedBase(base, m, windows.widths)
    return GmpPowerTable(base, m, windows.widths)


class GmpPowerTable:
    """Hold T_i[j] = base^(j * 2^(i * window_bits)) for every j below 2^window_bits: base^a = product of T_i[a_i].

    Cost: one multiplication per entry to build; num_windows - 1 multiplications an exponent.
    """

    def __init__(self, base: mpz, m: mpz, widths: Sequence[int]) -> None:
        self._m, self._modulus = mpz(m), mpz(m) ** 2
        self._rows: list[list[mpz]] = []
        step = mpz(base)
        for width in widths:
            self._rows.append(_powers(step, 1 << width, self._modulus))
            step = self._rows[-1][-1] * step % self._modulus

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers, without Python's objects around them."""
        return sum(map(len, self._rows)) * (self._modulus.bit_length() + 7) // 8

    def powers(self, digits: np.ndarray, plaintexts: Sequence[mpz] | None = None) -> list[mpz]:
        """Multiply up the table entries of digits, window after window: each window's table stays in the cache for the whole batch."""
        m, modulus = self._m, self._modulus
        windows = ([row[digit] for digit in window.tolist()] for row, window in zip(self._rows, digits, strict=True))
        result = next(windows)
        for factors in windows:
            result = [a * b % modulus for a, b in zip(result, factors, strict=True)]
        if plaintexts is None:
            return result
        return [(1 + x * m) * a % modulus for x, a in zip(plaintexts, result, strict=True)]


def window_widths(exponent_bits: int, window_bits: int) -> list[int]:
    """Return the width in bits of each window, lowest first; the last one takes what is left."""
    return [min(window_bits, exponent_bits - start) for start in range(0, exponent_bits, window_bits)]


def choose_window_bits(exponent_bits: int, entry_bytes: int, table_bytes: int, num_ciphertexts: int | None = None) -> int:
    """Choose the window that needs the fewest multiplications within table_bytes.

    When building that table would take longer than drawing num_ciphertexts from it, choose the window that makes both together the
    shortest. Beyond that point memory does not depend on the number of ciphertexts.

    Args:
        entry_bytes: bytes of a number mod n^2 (the owner's two halves take as much together).
        num_ciphertexts: None means very many.

    Raises: CryptoError when not even 1-bit windows fit.
    """
    fitting = {}  # window_bits: (entries to build, multiplications a ciphertext)
    for window_bits in range(1, LARGEST_WINDOW_BITS + 1):
        widths = window_widths(exponent_bits, window_bits)
        num_entries = sum(1 << width for width in widths)
        if num_entries * (entry_bytes + _MPZ_OVERHEAD_BYTES) <= table_bytes:
            fitting[window_bits] = num_entries, len(widths)
    if not fitting:
        raise CryptoError(
            f"table_bytes={table_bytes} is too small for any table: {exponent_bits}-bit exponents need at least "
            f"{2 * exponent_bits * (entry_bytes + _MPZ_OVERHEAD_BYTES)} bytes"
        )
    fastest = min(fitting, key=lambda bits: fitting[bits][1])
    num_entries, num_windows = fitting[fastest]
    if num_ciphertexts is None or num_entries <= num_ciphertexts * num_windows:
        return fastest
    return min(fitting, key=lambda bits: fitting[bits][0] + num_ciphertexts * fitting[bits][1])


def _powers(base: mpz, num_powers: int, modulus: mpz) -> list[mpz]:
    row = [mpz(1)]
    for _ in range(num_powers - 1):
        row.append(row[-1] * base % modulus)
    return row
