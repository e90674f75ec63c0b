"""Raise one base to many exponents mod m^2, with tables of its powers: the windows of powertable.py, eight exponents side by side.

Which rows of the table are read depends on the exponents: where somebody else's code runs on the same processor, the caches may show it.

Source: see powertable.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import gmpy2
import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.vector.digits import to_digits
from ppdl.crypto.arithmetic.vector.emit import LANES, LOAD, LOOKUP, MULTIPLY, STEP_WORDS, STORE
from ppdl.crypto.arithmetic.vector.ring import Ring, Step, aligned, as_program, padded
from ppdl.crypto.keys.keypair import Secret

_GROUPS_TOGETHER = 64  # that pass through one window's part of the table before the next


class FixedBase(Secret):
    """Hold the table of one base: window i, row j is base^(j 2^(window_bits i)) in Montgomery form, see powertable.PowerTable.

    Cost: one product a row to build, one a window and power.
    """

    def __init__(self, base: mpz, m: mpz, widths: Sequence[int]) -> None:
        self._ring = ring = Ring(m)
        self._num_windows, num_rows = len(widths), 1 << max(widths)
        steps = []
        for width in widths:
            steps.append(base)
            base = gmpy2.powmod(base, 1 << width, ring.square)
        num_windows = padded(self._num_windows)
        factors = ring.montgomery(steps + [mpz(1)] * (num_windows - self._num_windows))
        self._table = aligned((num_windows, num_rows, ring.row_words))
        unit, factor, power = range(3)
        program: list[Step] = [(LOAD, factor, 0, 1), (MULTIPLY, power, unit, unit)]
        for row in range(num_rows):
            program += [(STORE, power, row, num_rows), (MULTIPLY, power, power, factor)]
        build, held = as_program(program), ring.registers(3, ring.unit[None])
        for first in range(0, num_windows, LANES):  # eight windows side by side
            windows = slice(first, first + LANES)
            ring.run(build, held, inputs=factors[windows], outputs=self._table[windows])

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._table.nbytes

    def powers(self, digits: np.ndarray, plaintexts: Sequence[mpz] | None = None) -> list[mpz]:
        """Return base^a (1 + m)^x, see powertable.PowerTable."""
        ring, (num_windows, count) = self._ring, digits.shape
        # else the kernel would read elsewhere
        if digits.dtype != np.uint16 or num_windows != self._num_windows or (count and int(digits.max()) >= self._table.shape[1]):
            raise ValueError(
                f"digits must be uint16 of {self._num_windows} windows and below {self._table.shape[1]}, got {digits.dtype} {digits.shape}"
            )
        ahead = np.zeros((num_windows, padded(count) + LANES), np.uint16)  # the kernel fetches a group ahead
        ahead[:, :count] = digits
        last, results = aligned((padded(count), ring.row_words)), aligned((padded(count), ring.row_words))
        last[:, 0] = 1
        if plaintexts is not None:  # 1 + x m has the digits 1 and x
            last[:count, ring.num_digits : ring.width] = to_digits(plaintexts, ring.num_digits)

        held = ring.registers(_GROUPS_TOGETHER + 1, ring.unit[None])
        for start in range(0, padded(count), _GROUPS_TOGETHER * LANES):
            rows = slice(start, min(start + _GROUPS_TOGETHER * LANES, padded(count)))
            program = _window_after_window(num_windows, (rows.stop - start) // LANES)
            ring.run(program, held, table=self._table, digits=ahead[:, start:], inputs=last[rows], outputs=results[rows])
        return ring.numbers(results[:count])


@lru_cache(maxsize=4)
def _window_after_window(num_windows: int, num_groups: int) -> np.ndarray:
    """Write the program of some groups: all of them look up one window and multiply it in before the next."""
    scratch, g = _GROUPS_TOGETHER, np.arange(num_groups, dtype=np.int32)

    def steps(operation: int, c: np.ndarray | int, x: np.ndarray | int, y: np.ndarray | int) -> np.ndarray:
        return np.stack(np.broadcast_arrays(operation, c, x, y, g)[:4], axis=1)

    def in_turn(*kinds: np.ndarray) -> np.ndarray:
        return np.stack(kinds, axis=1).reshape(-1, STEP_WORDS)

    multiply = steps(MULTIPLY, g, g, scratch)
    rounds = [steps(LOOKUP, g, 0, g)]
    rounds += [in_turn(steps(LOOKUP, scratch, window, g), multiply) for window in range(1, num_windows)]
    rounds.append(in_turn(steps(LOAD, scratch, g * LANES, 1), multiply, steps(STORE, g, g * LANES, 1)))
    return np.ascontiguousarray(np.concatenate(rounds), np.int32)
