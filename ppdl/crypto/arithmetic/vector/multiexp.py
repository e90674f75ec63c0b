"""Multiply up powers of many bases with the vector kernel: one product for each row of a matrix of exponents.

The rows share the lanes: with three rows, two lanes work on each, with half of the bases. All lanes square together; what they multiply in
between is looked up, each lane its own power of its own base.

Source: E. Straus 1964, see multiexp.py, here with signed digits of fixed width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.linear_plan import signed_digits
from ppdl.crypto.arithmetic.numbers import invert_batch
from ppdl.crypto.arithmetic.vector.emit import LANES, LOAD, LOOKUP, MULTIPLY, STORE
from ppdl.crypto.arithmetic.vector.ring import Ring, Step, aligned, as_program, padded
from ppdl.errors import CryptoError

_WINDOWS = range(1, 7)
_LARGEST_TABLE = 2**16  # rows are counted by uint16
_UNIT, _ONE, _POWER, _SCRATCH, _BASE, _INVERSE = range(6)


class LaneProducts:
    """Hold the program of a matrix of exponents, (num_products, num_bases).

    Cost: the width of the digits is that with the fewest multiplications. The time depends on the exponents, not on the bases.
    """

    def __init__(self, exponents: Sequence[Sequence[int]]) -> None:
        self._num_products, self._num_bases = len(exponents), len(exponents[0])
        rounds = [_Round(exponents[start : start + LANES]) for start in range(0, self._num_products, LANES)]
        possible = [bits for bits in _WINDOWS if padded(self._num_bases) * ((1 << bits) + 1) <= _LARGEST_TABLE]
        if not possible:
            raise CryptoError(f"at most {_LARGEST_TABLE // 3} bases can be multiplied up at once, got {self._num_bases}")
        self._bits = min(possible, key=lambda bits: self._table_steps(bits) + sum(turn.num_steps(bits) for turn in rounds))
        self._rounds = [(turn.parts, *turn.program(self._bits)) for turn in rounds]
        self._half = 1 << (self._bits - 1)  # the largest digit
        self._table_program = self._fill_table()

    def products(self, ring: Ring, bases: Sequence[mpz]) -> list[mpz]:
        """Return one product a row. Raises: CryptoError when a base is no unit, or their number is not that of the exponents."""
        if len(bases) != self._num_bases:  # the kernel would read elsewhere
            raise CryptoError(f"{self._num_bases} bases are to be multiplied up, got {len(bases)}")
        table, found = self._table(ring, bases), list[mpz]()
        for parts, program, digits in self._rounds:
            held, out = ring.registers(_SCRATCH + 1, np.stack([ring.unit, ring.one])), aligned((LANES, ring.row_words))
            ring.run(program, held, table=table, digits=digits, outputs=out)
            lanes = ring.numbers(out)
            for first in range(0, LANES // parts * parts, parts):
                product = lanes[first]
                for lane in lanes[first + 1 : first + parts]:
                    product = product * lane % ring.square
                found.append(product)
        return found[: self._num_products]

    def _table_steps(self, bits: int) -> int:
        return 2 * ((1 << (bits - 1)) - 1) * padded(self._num_bases) // LANES

    def _table(self, ring: Ring, bases: Sequence[mpz]) -> np.ndarray:
        """Write base^digit, one window of rows: 2 half + 1 of each base, for digits 0, 1 to half, -1 to -half."""
        num_rows, fill = 2 * self._half + 1, [mpz(1)] * (padded(self._num_bases) - self._num_bases)
        pairs = ([*bases, *fill], [*invert_batch(bases, ring.square), *fill])
        table = aligned((1, padded(self._num_bases) * num_rows, ring.row_words))
        held = ring.registers(_INVERSE + 1, np.stack([ring.unit, ring.one]))
        for first in range(0, padded(self._num_bases), LANES):
            inputs = ring.montgomery([number for numbers in pairs for number in numbers[first : first + LANES]])
            ring.run(self._table_program, held, inputs=inputs, outputs=table[0, first * num_rows : (first + LANES) * num_rows])
        return table

    def _fill_table(self) -> np.ndarray:
        num_rows = 2 * self._half + 1
        steps: list[Step] = [(LOAD, _BASE, 0, 1), (LOAD, _INVERSE, LANES, 1), (STORE, _UNIT, 0, num_rows)]
        for base, first in ((_BASE, 1), (_INVERSE, 1 + self._half)):
            steps += [(MULTIPLY, _POWER, base, _UNIT), (STORE, _POWER, first, num_rows)]
            for row in range(first + 1, first + self._half):
                steps += [(MULTIPLY, _POWER, _POWER, base), (STORE, _POWER, row, num_rows)]
        return as_program(steps)


class _Round:
    """Share out the lanes of the kernel to at most eight rows of exponents."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.parts = LANES // len(rows)
        self._num_bases = -(-len(rows[0]) // self.parts)  # of a lane
        self._exponents = [row[part * self._num_bases : (part + 1) * self._num_bases] for row in rows for part in range(self.parts)]

    def _digits(self, bits: int) -> np.ndarray:
        """Return the digits of every lane's exponents, lowest position first: (num_positions, num_bases, 8)."""
        digits = [[signed_digits(exponent, bits, signed=True) for exponent in row] for row in self._exponents]
        found = np.zeros((max(len(d) for row in digits for d in row), self._num_bases, LANES), np.int64)
        for lane, row in enumerate(digits):
            for base, values in enumerate(row):
                found[: len(values), base, lane] = values
        return found

    def num_steps(self, bits: int) -> int:
        """Count the multiplications of `program`."""
        digits = self._digits(bits)
        return bits * (len(digits) - 1) + int(digits.any(axis=2).sum())

    def program(self, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the steps, and the rows of the table that they look up, uint16 (1, num_lookups * 8)."""
        digits, half = self._digits(bits), 1 << (bits - 1)
        first_base = np.arange(LANES) % self.parts * self._num_bases  # of each lane
        steps: list[Step] = [(MULTIPLY, _POWER, _UNIT, _UNIT)]
        rows: list[np.ndarray] = []
        for position in reversed(range(len(digits))):
            for base in np.flatnonzero(digits[position].any(axis=1)):
                digit = digits[position, base]
                place = np.where(digit >= 0, digit, half - digit)
                rows.append(np.where(digit != 0, (first_base + base) * (2 * half + 1) + place, 0))  # row 0 is 1
                steps += [(LOOKUP, _SCRATCH, 0, len(rows) - 1), (MULTIPLY, _POWER, _POWER, _SCRATCH)]
            steps += [(MULTIPLY, _POWER, _POWER, _POWER)] * (bits if position else 0)
        steps += [(MULTIPLY, _POWER, _POWER, _ONE), (STORE, _POWER, 0, 1)]
        rows.append(np.zeros(LANES, np.int64))  # the kernel fetches ahead
        return as_program(steps), np.concatenate(rows).astype(np.uint16)[None]
