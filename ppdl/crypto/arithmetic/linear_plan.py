"""Compile an integer matrix into few multiplications of ciphertexts, and run them with GMP.

1. Inputs of one output that share the absolute weight are multiplied first (shared between outputs where sets nest).
2. What must be inverted, for negative weights, is inverted together: one inversion and three multiplications each (Montgomery's trick).
3. Straus' simultaneous exponentiation with windowed, optionally signed digits, its tables of powers shared between all outputs.

The compiler counts the multiplications for every window, with signed and unsigned digits, with and without step 1, and keeps the cheapest
plan.

Source: E. Straus, "Addition chains of vectors", American Mathematical Monthly 71, 1964; P. Montgomery 1987 (numbers.invert_batch).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.numbers import invert_batch
from ppdl.errors import CryptoError

_WINDOWS = range(1, 7)

Step = tuple[int, int, int]  # register, and the two registers whose product it gets


@dataclass(frozen=True)
class LinearPlan:
    """Hold the multiplications of a matrix. Registers 0 to num_inputs - 1 are a group's inputs; `outputs` are registers.

    Build it with plan_linear.
    """

    num_inputs: int
    before: tuple[Step, ...]
    inversions: tuple[tuple[int, int], ...]  # register, and the register whose inverse it gets
    after: tuple[Step, ...]
    outputs: tuple[int, ...]

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    @property
    def num_multiplications(self) -> int:
        """Multiplications mod n^2 a group, without the one inversion that _GROUPS_AT_A_TIME groups share."""
        return len(self.before) + 3 * len(self.inversions) + len(self.after)

    def run(self, inputs: Sequence[list[mpz]], modulus: mpz) -> list[list[mpz]]:
        """Run the plan with GMP, on registers that hold one number a group: (num_inputs, num_groups) to (num_outputs, num_groups)."""
        registers = dict(enumerate(inputs))
        _multiply(self.before, registers, modulus)
        num_groups = len(inputs[0])
        inverses = invert_batch([c for _, source in self.inversions for c in registers[source]], modulus)
        for i, (register, _) in enumerate(self.inversions):
            registers[register] = inverses[i * num_groups : (i + 1) * num_groups]
        _multiply(self.after, registers, modulus)
        return [registers[register] for register in self.outputs]


def _multiply(steps: Sequence[Step], registers: dict[int, list[mpz]], modulus: mpz) -> None:
    for register, left, right in steps:
        registers[register] = [a * b % modulus for a, b in zip(registers[left], registers[right], strict=True)]


def plan_linear(weights: np.ndarray) -> LinearPlan:
    """Compile an integer matrix (num_outputs, num_inputs) into the cheapest plan that this module knows.

    Raises: CryptoError for anything but a two-dimensional integer matrix without a row of zeros.
    """
    weights = np.asarray(weights)
    if weights.ndim != 2 or weights.dtype.kind not in "iu" or not weights.size:
        raise CryptoError(f"weights must be integers (num_outputs, num_inputs), got {weights.dtype} {weights.shape}")
    rows = [[int(w) for w in row] for row in weights]
    if not all(any(row) for row in rows):
        zero = next(j for j, row in enumerate(rows) if not any(row))
        raise CryptoError(f"row {zero} of the weights is zero: its output would be 1, an encryption of 0 that hides nothing")
    choices = product((True, False), (True, False), _WINDOWS)
    return min((_Compiler(rows, *choice).plan() for choice in choices), key=lambda plan: plan.num_multiplications)


def signed_digits(weight: int, window_bits: int, signed: bool) -> list[int]:
    """Write a weight in base 2^window_bits, lowest digit first: unsigned digits carry its sign, signed ones reach from -half to half."""
    sign, rest, base, digits = (1 if weight >= 0 else -1), abs(weight), 1 << window_bits, []
    while rest:
        digit = rest % base
        if signed and digit > base // 2:
            digit -= base
        digits.append(sign * digit)
        rest = (rest - digit) // base
    return digits


Factor = tuple[frozenset[int], frozenset[int]]


class _Compiler:
    """Write the steps of one choice of options. A factor is (plus, minus): the product of one set of inputs over that of another."""

    def __init__(self, rows: list[list[int]], merge: bool, signed: bool, window_bits: int):
        self.rows, self.merge, self.signed, self.window_bits = rows, merge, signed, window_bits
        self.num_registers = len(rows[0])
        self.before: list[Step] = []
        self.after: list[Step] = []
        self.products: dict[frozenset[int], int] = {frozenset([i]): i for i in range(self.num_registers)}
        self.by_smallest: dict[int, list[frozenset[int]]] = defaultdict(list)  # products of two and more inputs
        self.inverses: dict[int, int] = {}
        self.powers: dict[Factor, dict[int, int]] = {}

    def plan(self) -> LinearPlan:
        outputs = [self.factors_of(row) for row in self.rows]
        needed = {part for factors in outputs for factor in factors for part in factor if part}
        for inputs in sorted(needed, key=lambda part: (len(part), sorted(part))):  # small ones first: large ones reuse them
            self.product_of(inputs)
        registers = tuple(self.exponentiate(factors) for factors in outputs)
        inversions = tuple((register, source) for source, register in self.inverses.items())
        return LinearPlan(len(self.rows[0]), tuple(self.before), inversions, tuple(self.after), registers)

    def factors_of(self, row: list[int]) -> dict[Factor, int]:
        """Return the factors of an output and their weights."""
        if not self.merge:
            return {(frozenset([i]), frozenset()): w for i, w in enumerate(row) if w}
        sides: dict[int, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
        for i, w in enumerate(row):
            if w:
                sides[abs(w)][w < 0].add(i)
        factors: dict[Factor, int] = {}
        for weight, (plus, minus) in sides.items():
            # the side with the smallest input is the numerator, so that w and -w share their tables
            flip = min(plus | minus) in minus
            key = (frozenset(minus), frozenset(plus)) if flip else (frozenset(plus), frozenset(minus))
            factors[key] = -weight if flip else weight
        return factors

    def product_of(self, inputs: frozenset[int]) -> int:
        if inputs not in self.products:
            rest, parts = set(inputs), []
            known = (part for smallest in inputs for part in self.by_smallest[smallest] if part <= inputs)
            for part in sorted(known, key=lambda part: (-len(part), sorted(part))):
                if part <= rest:
                    parts.append(self.products[part])
                    rest -= part
            register, *others = parts + sorted(rest)
            for other in others:
                register = self.multiply(self.before, register, other)
            self.products[inputs] = register
            self.by_smallest[min(inputs)].append(inputs)
        return self.products[inputs]

    def multiply(self, steps: list[Step], left: int, right: int) -> int:
        steps.append((self.num_registers, left, right))
        self.num_registers += 1
        return steps[-1][0]

    def inverse_of(self, inputs: frozenset[int]) -> int:
        source = self.products[inputs]
        if source not in self.inverses:
            self.inverses[source] = self.num_registers
            self.num_registers += 1
        return self.inverses[source]

    def power(self, factor: Factor, exponent: int) -> int:
        """Return the register of factor^exponent; a negative exponent means the factor with its sides exchanged."""
        if exponent < 0:
            factor, exponent = factor[::-1], -exponent
        table = self.powers.setdefault(factor, {})
        if not table:
            table[1] = self.base(factor)
        return self.extend(table, exponent)

    def base(self, factor: Factor) -> int:
        plus, minus = factor
        if not minus:
            return self.products[plus]
        if not plus:
            return self.inverse_of(minus)
        return self.multiply(self.after, self.products[plus], self.inverse_of(minus))

    def extend(self, table: dict[int, int], exponent: int) -> int:
        if exponent not in table:
            split = next((a for a in table if exponent - a in table), None)
            if split is None:
                split = exponent // 2 if exponent % 2 == 0 else 1
            left, right = self.extend(table, split), self.extend(table, exponent - split)
            table[exponent] = self.multiply(self.after, left, right)
        return table[exponent]

    def exponentiate(self, factors: dict[Factor, int]) -> int:
        """Straus: from the highest digit down, raise to 2^window_bits and multiply by the tables' powers."""
        digits = {factor: signed_digits(w, self.window_bits, self.signed) for factor, w in factors.items()}
        result: int | None = None
        for position in reversed(range(max(map(len, digits.values())))):
            if result is not None:
                for _ in range(self.window_bits):
                    result = self.multiply(self.after, result, result)
            for factor, places in digits.items():
                if position < len(places) and places[position]:
                    power = self.power(factor, places[position])
                    result = power if result is None else self.multiply(self.after, result, power)
        if result is None:  # plan_linear refuses rows of zeros
            raise CryptoError("a filter of zeros has no output")
        return result
