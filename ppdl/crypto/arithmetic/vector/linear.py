"""Run a LinearPlan with the vector kernel: eight groups side by side, and the one inversion shared by many of them.

Source: P. Montgomery 1987 for the shared inversion, see numbers.invert_batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.numbers import invert_batch
from ppdl.crypto.arithmetic.vector.emit import LANES, LOAD, MULTIPLY, STORE
from ppdl.crypto.arithmetic.vector.ring import Ring, Step, aligned, as_program
from ppdl.errors import CryptoError

if TYPE_CHECKING:
    from ppdl.crypto.arithmetic.linear_plan import LinearPlan
    from ppdl.crypto.arithmetic.linear_plan import Step as PlanStep

_BLOCKS = 8  # of eight groups that share an inversion
_NUM_CONSTANTS = 3  # registers of 1 in Montgomery form, of 1, and a scratch one
GROUPS_AT_A_TIME = _BLOCKS * LANES


class LinearProgram:
    """Hold a plan's programs, each block of eight groups with registers of its own: first `before`, then an inversion, then `after`."""

    def __init__(self, m: int, plan: LinearPlan) -> None:
        self._ring, self._plan = Ring(m), plan
        steps = [*plan.before, *plan.after]
        used = [plan.num_inputs - 1, *plan.outputs, *(step[0] for step in steps), *(register for register, _ in plan.inversions)]
        self._size = size = max(used) + 1
        unit, one, self._inverse = range(_NUM_CONSTANTS)
        inverted = [(self._in(b, register), self._in(b, source)) for b in range(_BLOCKS) for register, source in plan.inversions]
        # products[i] is the product of the sources 0 to i
        first = _NUM_CONSTANTS + _BLOCKS * size
        products = [source if i == 0 else first + i - 1 for i, (_, source) in enumerate(inverted)]
        self._num_registers = first + len(products)
        before: list[Step] = [(LOAD, self._in(b, i), (i * _BLOCKS + b) * LANES, 1) for b in range(_BLOCKS) for i in range(plan.num_inputs)]
        before += self._multiply(plan.before)
        before += [(MULTIPLY, products[i], products[i - 1], inverted[i][1]) for i in range(1, len(inverted))]
        if products:
            before += [(MULTIPLY, self._inverse, products[-1], one), (STORE, self._inverse, 0, 1)]
        after: list[Step] = [(LOAD, self._inverse, 0, 1)] if products else []
        for i in range(len(inverted) - 1, -1, -1):
            register, source = inverted[i]
            after.append((MULTIPLY, register, self._inverse, products[i - 1] if i else unit))
            after.append((MULTIPLY, self._inverse, self._inverse, source))
        after += self._multiply(plan.after)
        for j, register in enumerate(plan.outputs):
            for b in range(_BLOCKS):
                after += [(MULTIPLY, self._inverse, self._in(b, register), one), (STORE, self._inverse, (j * _BLOCKS + b) * LANES, 1)]
        self._before, self._after = as_program(before), as_program(after)

    def _in(self, block: int, register: int) -> int:
        """Return where a block keeps a register of the plan."""
        return _NUM_CONSTANTS + block * self._size + register

    def _multiply(self, steps: tuple[PlanStep, ...]) -> list[Step]:
        return [(MULTIPLY, self._in(b, c), self._in(b, x), self._in(b, y)) for b in range(_BLOCKS) for c, x, y in steps]

    def run(self, planes: np.ndarray) -> list[list[mpz]]:
        """Return the outputs, (num_outputs, num_groups), of at most GROUPS_AT_A_TIME groups.

        Args:
            planes: uint8 (num_inputs, num_groups, ciphertext_bytes), units mod m^2.
        Raises: CryptoError when one that must be inverted is no unit, or there are not num_inputs planes.
        """
        ring, (num_inputs, num_groups, size) = self._ring, planes.shape
        if num_inputs != self._plan.num_inputs:  # the kernel would read elsewhere
            raise CryptoError(f"this plan has {self._plan.num_inputs} inputs, got {num_inputs}")
        inputs = aligned((num_inputs, GROUPS_AT_A_TIME, ring.row_words))
        inputs[:] = ring.unit
        inputs[:, :num_groups] = ring.split(planes.reshape(-1, size)).reshape(num_inputs, num_groups, ring.row_words)
        held = ring.registers(self._num_registers, np.stack([ring.unit, ring.one]))
        product, outputs = aligned((LANES, ring.row_words)), aligned((self._plan.num_outputs, GROUPS_AT_A_TIME, ring.row_words))
        ring.run(self._before, held, inputs=inputs, outputs=product)
        if self._plan.inversions:
            product = ring.montgomery(invert_batch(ring.numbers(product), ring.square))
        ring.run(self._after, held, inputs=product, outputs=outputs)
        return [ring.numbers(rows[:num_groups]) for rows in outputs]


@lru_cache(maxsize=1)
def linear_program(m: int, plan: LinearPlan) -> LinearProgram:
    """Return the program of a plan; the last one is kept, for a stage runs one plan over many shards."""
    return LinearProgram(m, plan)
