"""Run a LinearPlan with the vector kernel: eight groups side by side, and the one inversion shared by many of them.

Source: P. Montgomery 1987 for the shared inversion, see numbers.invert_batch.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.numbers import invert_batch
from ppdl.crypto.arithmetic.vector.emit import LANES, LOAD, MULTIPLY, STORE
from ppdl.crypto.arithmetic.vector.ring import Ring, Step, aligned, as_program, join
from ppdl.errors import CryptoError

if TYPE_CHECKING:
    from ppdl.crypto.arithmetic.linear_plan import LinearPlan
    from ppdl.crypto.arithmetic.linear_plan import Step as PlanStep

_BLOCKS = 8  # of eight groups that share an inversion
_ONE, _PLACES = range(2)  # registers of constants: 1, the places of an input's pieces, and a factor for each output
GROUPS_AT_A_TIME = _BLOCKS * LANES


class LinearProgram:
    """Hold a plan's programs, each block of eight groups with registers of its own: first `before`, then an inversion, then `after`.

    What is loaded is not brought into Montgomery form: a residue x stands for x / R there, and what is computed from it for itself over a
    power of R, of which the last product makes up for.
    """

    def __init__(self, m: int, plan: LinearPlan) -> None:
        self._ring = ring = Ring(m)
        self._plan = plan
        self._num_bytes = (2 * ring.m.bit_length() + 7) // 8
        steps = (*plan.before, *plan.inversions, *plan.after)
        size = max([plan.num_inputs, *(register + 1 for register, *_ in steps)])
        num_pieces = ring.num_pieces(self._num_bytes)
        factors = ring.rows([power for (power,) in plan.run([[ring.r % ring.square]] * plan.num_inputs, ring.square)])
        constants = np.concatenate([ring.one[None], ring.places(num_pieces), factors])
        first_factor, inverse = len(constants) - len(factors), len(constants)
        *blocks, first = [inverse + 1 + b * size for b in range(_BLOCKS + 1)]  # the registers of each
        inverted = [(block + register, block + source) for block in blocks for register, source in plan.inversions]
        # products[i] is the product of the sources 0 to i
        products = [source if i == 0 else first + i - 1 for i, (_, source) in enumerate(inverted)]
        # some megabytes that each batch uses anew, one at a time
        self._held = ring.registers(first + len(products), constants)
        self._inputs = aligned((plan.num_inputs, GROUPS_AT_A_TIME, num_pieces, ring.row_words))
        self._lock = Lock()
        before = list[Step]()
        for b, block in enumerate(blocks):
            for i in range(plan.num_inputs):
                before += join(block + i, inverse, (i * _BLOCKS + b) * LANES * num_pieces, num_pieces, _PLACES)
            before += _multiply(plan.before, block)
        before += [(MULTIPLY, products[i], products[i - 1], inverted[i][1]) for i in range(1, len(inverted))]
        if products:
            before += [(MULTIPLY, inverse, products[-1], _ONE), (STORE, inverse, 0, 1)]
        after: list[Step] = [(LOAD, inverse, 0, 1)] if products else []
        for i in range(len(inverted) - 1, -1, -1):
            register, source = inverted[i]
            after.append((MULTIPLY, register, inverse, products[i - 1] if i else _PLACES))
            after.append((MULTIPLY, inverse, inverse, source))
        for b, block in enumerate(blocks):
            after += _multiply(plan.after, block)
            for j, register in enumerate(plan.outputs):
                after += [(MULTIPLY, inverse, block + register, first_factor + j), (STORE, inverse, (j * _BLOCKS + b) * LANES, 1)]
        self._before, self._after = as_program(before), as_program(after)

    def run(self, planes: np.ndarray) -> list[list[mpz]]:
        """Return the outputs, (num_outputs, num_groups), of at most GROUPS_AT_A_TIME groups.

        Args:
            planes: uint8 (num_inputs, num_groups, ciphertext_bytes), units mod m^2.
        Raises: CryptoError when one that must be inverted is no unit, or the planes are not num_inputs of ciphertext_bytes.
        """
        ring, (num_inputs, num_groups, size) = self._ring, planes.shape
        if num_inputs != self._plan.num_inputs or size != self._num_bytes:  # the kernel would read elsewhere
            raise CryptoError(f"this plan has {self._plan.num_inputs} inputs of {self._num_bytes} bytes, got {num_inputs} of {size}")
        product, outputs = aligned((LANES, ring.row_words)), aligned((self._plan.num_outputs, GROUPS_AT_A_TIME, ring.row_words))
        with self._lock:
            for plane, pieces in zip(planes, self._inputs, strict=True):  # one by one: in the cache
                ring.cut(plane, pieces[:num_groups])
            self._inputs[:, num_groups:] = 0
            self._inputs[:, num_groups:, 0, 0] = 1
            ring.run(self._before, self._held, inputs=self._inputs, outputs=product)
            if self._plan.inversions:
                product = ring.montgomery(invert_batch(ring.numbers(product), ring.square))
            ring.run(self._after, self._held, inputs=product, outputs=outputs)
        return [ring.numbers(rows[:num_groups]) for rows in outputs]


def _multiply(steps: tuple[PlanStep, ...], block: int) -> list[Step]:
    return [(MULTIPLY, block + c, block + x, block + y) for c, x, y in steps]


@lru_cache(maxsize=1)
def linear_program(m: int, plan: LinearPlan) -> LinearProgram:
    """Return the program of a plan; the last one is kept, for a stage runs one plan over many shards."""
    return LinearProgram(m, plan)
