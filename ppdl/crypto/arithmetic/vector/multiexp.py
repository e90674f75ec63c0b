"""Multiply up powers of many bases with the vector kernel: one product for each row of a matrix of exponents.

The rows share the lanes: with three rows, two lanes work on each, with half of the bases. All lanes square together; what they multiply in
between is looked up, each lane its own power of its own base. A unit^power that multiplies each row shares the squarings.

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
    """Hold the program of a matrix of exponents, (num_products, num_bases), and of one exponent more, which comes with the bases.

    Args:
        power_bits: that exponent is below 2^power_bits.
    Cost: the width of the digits is that with the fewest multiplications. The time depends on the exponents, not on the bases.
    """

    def __init__(self, exponents: Sequence[Sequence[int]], power_bits: int) -> None:
        self._num_products, self._power_bits = len(exponents), power_bits
        self._num_bases = len(exponents[0]) + len(exponents)
        starts = range(0, self._num_products, LANES)
        rounds = [_Round(exponents[start : start + LANES], len(exponents[0]) + start, power_bits) for start in starts]
        possible = [bits for bits in _WINDOWS if padded(self._num_bases) * ((1 << bits) + 1) <= _LARGEST_TABLE]
        if not possible:
            raise CryptoError(f"at most {_LARGEST_TABLE // 3} bases can be multiplied up at once, got {self._num_bases}")
        self._bits = min(possible, key=lambda bits: self._table_steps(bits) + sum(turn.num_steps(bits) for turn in rounds))
        self._rounds = [(turn, *turn.program(self._bits)) for turn in rounds]
        self._half = 1 << (self._bits - 1)  # the largest digit
        self._table_program = self._fill_table()

    def products(self, ring: Ring, bases: Sequence[mpz], units: Sequence[mpz], power: int) -> list[mpz]:
        """Return one product a row, times the row's unit^power.

        Raises: CryptoError when a base is no unit, their number is not that of the exponents, or the power is out of its range.
        """
        if len(bases) + len(units) != self._num_bases or len(units) != self._num_products:  # the kernel would read elsewhere
            wanted = f"{self._num_bases - self._num_products} bases and {self._num_products} units"
            raise CryptoError(f"{wanted} are to be multiplied up, got {len(bases)} and {len(units)}")
        if power < 0 or power.bit_length() > self._power_bits:
            raise CryptoError(f"the power must have at most {self._power_bits} bits and no sign")
        table, found = self._table(ring, [*bases, *units]), list[mpz]()
        places = _places(np.array(signed_digits(power, self._bits, signed=True), np.int64), self._half)
        for turn, program, digits in self._rounds:
            held, out = ring.registers(_SCRATCH + 1, np.stack([ring.unit, ring.one])), aligned((LANES, ring.row_words))
            ring.run(program, held, table=table, digits=turn.with_power(digits, places, 2 * self._half + 1), outputs=out)
            lanes = ring.numbers(out)
            for first in range(0, LANES // turn.parts * turn.parts, turn.parts):
                product = lanes[first]
                for lane in lanes[first + 1 : first + turn.parts]:
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


def _places(digits: np.ndarray, half: int) -> np.ndarray:
    """Return the rows of a base's powers in the table, by digit."""
    return np.where(digits >= 0, digits, half - digits)


class _Round:
    """Share out the lanes of the kernel to at most eight rows of exponents; the first lane of a row has its unit as well.

    Args:
        first_unit: number of the first row's unit among the bases.
    """

    def __init__(self, rows: Sequence[Sequence[int]], first_unit: int, power_bits: int) -> None:
        self.parts = LANES // len(rows)
        self._num_rows, self._first_unit, self._power_bits = len(rows), first_unit, power_bits
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
        digits, num_places = self._digits(bits), self._num_places(bits)
        return bits * (max(len(digits), num_places) - 1) + int(digits.any(axis=2).sum()) + num_places

    def _num_places(self, bits: int) -> int:
        return self._power_bits // bits + 1  # of a signed number's digits

    def program(self, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the steps, and the rows of the table that they look up, uint16 (num_lookups, 8): those of the units first, all 1."""
        digits, half, num_places = self._digits(bits), 1 << (bits - 1), self._num_places(bits)
        first_base = np.arange(LANES) % self.parts * self._num_bases  # of each lane
        steps: list[Step] = [(MULTIPLY, _POWER, _UNIT, _UNIT)]
        rows = [np.zeros(LANES, np.int64)] * num_places
        for position in reversed(range(max(len(digits), num_places))):
            lookups = [position] if position < num_places else []
            for base in np.flatnonzero(digits[position].any(axis=1)) if position < len(digits) else ():
                digit = digits[position, base]
                lookups.append(len(rows))
                rows.append(np.where(digit != 0, (first_base + base) * (2 * half + 1) + _places(digit, half), 0))  # row 0 is 1
            for k in lookups:
                steps += [(LOOKUP, _SCRATCH, 0, k), (MULTIPLY, _POWER, _POWER, _SCRATCH)]
            steps += [(MULTIPLY, _POWER, _POWER, _POWER)] * (bits if position else 0)
        steps += [(MULTIPLY, _POWER, _POWER, _ONE), (STORE, _POWER, 0, 1)]
        return as_program(steps), np.stack([*rows, np.zeros(LANES, np.int64)]).astype(np.uint16)  # the kernel fetches ahead

    def with_power(self, rows: np.ndarray, places: np.ndarray, num_rows: int) -> np.ndarray:
        """Return `program`'s rows of the table with those of each unit's powers, uint16 (1, num_lookups * 8).

        Args:
            places: of the power's digits, see `_places`.
            num_rows: of a base in the table.
        """
        rows = rows.copy()
        units = (self._first_unit + np.arange(self._num_rows)) * num_rows
        rows[: len(places), : self._num_rows * self.parts : self.parts] = np.where(places[:, None], units + places[:, None], 0)
        return rows.reshape(1, -1)
