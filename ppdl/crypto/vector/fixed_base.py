"""Raise one base to many exponents mod m^2, with tables of its powers: the windows of powertable.py, eight exponents side by side.

Which rows of the table are read depends on the exponents: where somebody else's code runs on the same processor, the caches may show it.

Source: see powertable.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import gmpy2
import numpy as np
from gmpy2 import mpz

from ppdl.crypto.keys import refuse_pickle
from ppdl.crypto.vector.digits import to_digits
from ppdl.crypto.vector.emit import LANES, LOOKUP, MULTIPLY
from ppdl.crypto.vector.ring import Ring, Step, aligned, as_program, fill, in_threads, registers

_CHUNK = 64  # rows of a window that are computed at a time: they stay in the cache until they are written
_GROUPS_TOGETHER = 64  # that pass through one window's part of the table before the next


class FixedBase:
    """Hold the table of one base: window i, row j is base^(j 2^(window_bits i)) in Montgomery form, see powertable.PowerTable.

    Cost: one product a row to build, one a window and power.
    """

    def __init__(self, base: mpz, m: mpz, widths: Sequence[int], *, num_threads: int = 1) -> None:
        self._ring = ring = Ring(m)
        num_windows, num_rows = len(widths), 1 << max(widths)
        padded = -(-num_windows // LANES) * LANES
        steps = []
        for width in widths:
            steps.append(base)
            base = gmpy2.powmod(base, 1 << width, ring.square)
        factors = ring.montgomery(steps + [mpz(1)] * (padded - num_windows))
        self._table = aligned((num_windows, num_rows, ring.row_words))
        chunk = min(_CHUNK, num_rows)
        factor, so_far, unit = chunk, chunk + 1, chunk + 2
        program: list[Step] = [(MULTIPLY, 0, so_far, unit)]
        program += [(MULTIPLY, i, i - 1, factor) for i in range(1, chunk)]
        program += [(MULTIPLY, so_far, chunk - 1, factor)]
        packed, one = as_program(program), ring.unit[:, None]

        def build(groups: range) -> None:
            held = registers(chunk + 3, ring.width)
            for g in groups:
                windows = slice(g * LANES, min((g + 1) * LANES, num_windows))
                held[factor], held[so_far], held[unit] = factors[g * LANES : (g + 1) * LANES].T, one, one
                for start in range(0, num_rows, chunk):
                    ring.run(packed, held)
                    rows = held[:chunk].transpose(2, 0, 1)[: windows.stop - windows.start]
                    self._table[windows, start : start + chunk, : ring.width] = rows

        in_threads(build, padded // LANES, num_threads)

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._table.nbytes

    def powers(self, digits: np.ndarray, plaintexts: Sequence[mpz] | None = None, *, num_threads: int = 1) -> list[mpz]:
        """Return base^a (1 + m)^x, see powertable.PowerTable."""
        ring = self._ring
        last = np.zeros((digits.shape[1], ring.width), np.uint64)
        last[:, 0] = 1
        if plaintexts is not None:  # 1 + x m has the digits 1 and x
            last[:, ring.num_digits :] = to_digits(plaintexts, ring.num_digits)
        return ring.numbers(self._rows(digits, last, num_threads))

    def _rows(self, digits: np.ndarray, last: np.ndarray, num_threads: int) -> np.ndarray:
        """Return base^a times `last`, rows (num_exponents, width) not in Montgomery form, as rows whose digits are below 1.5 m."""
        ring, (num_windows, count) = self._ring, digits.shape
        if num_windows != len(self._table) or (count and int(digits.max()) >= self._table.shape[1]):  # the kernel would read other memory
            raise ValueError(f"digits must be of {len(self._table)} windows and below {self._table.shape[1]}, got {digits.shape}")
        num_groups = -(-count // LANES)
        padded = np.zeros((num_windows, (num_groups + 1) * LANES), np.uint16)  # the kernel fetches a group ahead
        padded[:, :count] = digits
        result = np.empty((count, ring.width), np.uint64)

        def work(groups: range) -> None:
            held = registers(2 * _GROUPS_TOGETHER + 1, ring.width)
            for start in range(groups.start, groups.stop, _GROUPS_TOGETHER):
                together = range(start, min(start + _GROUPS_TOGETHER, groups.stop))
                for i, group in enumerate(together):
                    fill(held[_GROUPS_TOGETHER + i], last[group * LANES : (group + 1) * LANES].T)
                program = _window_after_window(num_windows, start, len(together))
                ring.run(program, held, table=self._table, digits=padded)
                for i, group in enumerate(together):
                    rows = result[group * LANES : (group + 1) * LANES]
                    rows[:] = held[i].T[: len(rows)]

        in_threads(work, num_groups, num_threads)
        return result

    def __repr__(self) -> str:
        return "FixedBase(not shown)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_pickle(self)


def _window_after_window(num_windows: int, start: int, num_groups: int) -> np.ndarray:
    """Write the program of the groups from `start` on: their results in registers from 0, their last factors from _GROUPS_TOGETHER."""
    scratch, g = 2 * _GROUPS_TOGETHER, np.arange(num_groups, dtype=np.int32)
    full = np.full(num_groups, 1, np.int32)
    rounds = [np.stack([full * LOOKUP, g, full * 0, start + g], axis=1)]
    for window in range(1, num_windows):
        look = np.stack([full * LOOKUP, full * scratch, full * window, start + g], axis=1)
        multiply = np.stack([full * MULTIPLY, g, g, full * scratch], axis=1)
        rounds.append(np.stack([look, multiply], axis=1).reshape(-1, 4))
    rounds.append(np.stack([full * MULTIPLY, g, g, _GROUPS_TOGETHER + g], axis=1))
    return np.ascontiguousarray(np.concatenate(rounds), np.int32)
