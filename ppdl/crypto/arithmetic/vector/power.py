"""Raise many numbers to one exponent mod m^2.

A private exponent is cut into windows of fixed width, and every step reads the whole table of powers: neither which instructions run nor
which addresses are read depends on its bits, only on its length. A public one is cut into sliding windows, which needs fewer products.

Source: A. Menezes, P. van Oorschot, S. Vanstone, "Handbook of Applied Cryptography", 1996, algorithms 14.82 (fixed windows) and 14.85
(sliding windows).
"""

from __future__ import annotations

import re

import numpy as np

from ppdl.crypto.arithmetic.vector.emit import LOAD, MULTIPLY, SELECT, STORE
from ppdl.crypto.arithmetic.vector.ring import Ring, Step, aligned, as_program, padded
from ppdl.crypto.keys.keypair import Secret

_PRIVATE_WINDOW_BITS = 5  # reading a wider table costs more than its windows save
_PUBLIC_WINDOW_BITS = 6
_UNIT, _ONE, _INTO = range(3)  # registers of constants; the table follows
_NUM_CONSTANTS = 3
_NUM_FURTHER = _NUM_CONSTANTS + 2  # registers beside the table's


class Power(Secret):
    """Hold the program that raises to one exponent >= 1.

    Args:
        private: hide the exponent's bits from whoever measures time or sees which addresses are read; the program is as secret as they.
    Raises: ValueError for an exponent below 1, without its value.
    Cost: about one product for each bit of the exponent and one for each window; 8 bases cost as much as 1.
    """

    def __init__(self, exponent: int, *, private: bool) -> None:
        if exponent < 1:
            raise ValueError("an exponent must be at least 1")
        self._num_entries = 1 << _PRIVATE_WINDOW_BITS if private else 1 << (_PUBLIC_WINDOW_BITS - 1)
        self._program = as_program((_fixed_windows if private else _sliding_windows)(int(exponent)))

    def of(self, ring: Ring, bases: np.ndarray, *, num_threads: int = 1) -> np.ndarray:
        """Return base^exponent of rows with digits below 8 m, not in Montgomery form, as rows with digits a0 <= m and a1 <= m."""
        rows = aligned((padded(len(bases)), ring.row_words))
        rows[: len(bases)] = bases
        return ring.each(
            self._program,
            rows,
            len(bases),
            constants=np.stack([ring.unit, ring.one, ring.into]),
            num_registers=self._num_entries + _NUM_FURTHER,
            num_entries=self._num_entries,
            num_threads=num_threads,
        )


def _fixed_windows(exponent: int) -> list[Step]:
    """Entry i of the table is base^i; entry 0, which is 1, is multiplied in like the others."""
    bits, entries = _PRIVATE_WINDOW_BITS, 1 << _PRIVATE_WINDOW_BITS
    table, power, scratch = _NUM_CONSTANTS, _NUM_CONSTANTS + entries, _NUM_CONSTANTS + entries + 1
    steps = [(MULTIPLY, table, _UNIT, _UNIT), (LOAD, table + 1, 0, 1), (MULTIPLY, table + 1, table + 1, _INTO)]
    for i in range(2, entries):
        steps.append((MULTIPLY, table + i, *((table + i // 2,) * 2 if i % 2 == 0 else (table + i - 1, table + 1))))
    first, *rest = [exponent >> bits * i & (entries - 1) for i in reversed(range(-(-exponent.bit_length() // bits)))]
    steps.append((SELECT, power, table, first))
    for digit in rest:
        steps += [(MULTIPLY, power, power, power)] * bits + [(SELECT, scratch, table, digit), (MULTIPLY, power, power, scratch)]
    return [*steps, (MULTIPLY, power, power, _ONE), (STORE, power, 0, 1)]


def _sliding_windows(exponent: int) -> list[Step]:
    """Entry i of the table is base^(2 i + 1)."""
    entries = 1 << (_PUBLIC_WINDOW_BITS - 1)
    table, power, square = _NUM_CONSTANTS, _NUM_CONSTANTS + entries, _NUM_CONSTANTS + entries + 1
    steps = [(LOAD, table, 0, 1), (MULTIPLY, table, table, _INTO), (MULTIPLY, square, table, table)]
    steps += [(MULTIPLY, table + i, table + i - 1, square) for i in range(1, entries)]
    held = -1  # the register of the result so far; the first entry is read where it is
    for window in re.findall(f"0+|1(?:[01]{{0,{_PUBLIC_WINDOW_BITS - 2}}}1)?", f"{exponent:b}"):
        if held >= 0:
            steps += [(MULTIPLY, power, held, held), *[(MULTIPLY, power, power, power)] * (len(window) - 1)]
            held = power
        if window[0] == "1":
            entry = table + int(window, 2) // 2
            if held >= 0:
                steps.append((MULTIPLY, power, held, entry))
            held = entry if held < 0 else power
    return [*steps, (MULTIPLY, power, held, _ONE), (STORE, power, 0, 1)]
