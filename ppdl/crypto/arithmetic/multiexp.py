"""Multiply up powers of many bases at once: one product for each row of a matrix of exponents.

`StrausPlan` is for few bases and long exponents: squarings are shared by all bases of a row, and tables of odd powers by all rows.
`bucket_product` is for many bases and short exponents: bases with the same exponent are multiplied first.

Source: E. Straus, "Addition chains of vectors", American Mathematical Monthly 71, 1964, with the signed sliding windows of D. Hankerson,
A. Menezes, S. Vanstone, "Guide to Elliptic Curve Cryptography", algorithm 3.35; buckets: A. Yao, "On the evaluation of powers", SIAM
Journal on Computing 5, 1976, and E. Brickell et al., EUROCRYPT 1992.
"""

from collections import defaultdict
from collections.abc import Sequence

from gmpy2 import mpz

from ppdl.crypto.arithmetic.numbers import invert_batch

_WIDTHS = range(2, 7)


class StrausPlan:
    """Hold which table entry is multiplied in after which squaring, for each row of exponents (num_products, num_bases).

    The window is that with the fewest multiplications.
    Cost: num_multiplications, 5 us each at 2048 bits, and one inversion. The time depends on the exponents, not on the bases.
    """

    def __init__(self, exponents: Sequence[Sequence[int]]) -> None:
        self.num_bases = len(exponents[0])
        plans = [_Windows(exponents, width) for width in _WIDTHS]
        self._windows = min(plans, key=lambda plan: plan.num_multiplications)

    @property
    def num_multiplications(self) -> int:
        return self._windows.num_multiplications

    def products(self, bases: Sequence[mpz], modulus: mpz) -> list[mpz]:
        """Return one product a row. Raises: CryptoError when a base has no inverse and its exponents need one."""
        table: list[mpz] = []
        for base in [*bases, *(invert_batch(bases, modulus) if self._windows.signed else ())]:
            square = base * base % modulus
            table.append(base)
            for _ in range(self._windows.powers - 1):
                table.append(table[-1] * square % modulus)
        return [_run(steps, table, modulus) for steps in self._windows.rows]


class _Windows:
    """Schedule rows of exponents for one width: rows[i] lists, from the highest bit down, the table entries to multiply in at each bit.

    Table entry (j * powers + k) is base j to the power 2 k + 1; bases after num_bases are the inverses.
    """

    def __init__(self, exponents: Sequence[Sequence[int]], width: int) -> None:
        num_bases, self.powers = len(exponents[0]), 1 << (width - 2)
        self.rows: list[list[list[int]]] = []
        self.signed = False
        for row in exponents:
            places: dict[int, list[int]] = defaultdict(list)
            for j, exponent in enumerate(row):
                for position, digit in sliding_windows(exponent, width):
                    self.signed |= digit < 0
                    places[position].append((j if digit > 0 else num_bases + j) * self.powers + abs(digit) // 2)
            self.rows.append([places[position] for position in range(max(places, default=-1), -1, -1)])
        tables = num_bases * ((2 if self.signed else 1) * self.powers + (3 if self.signed else 0))
        self.num_multiplications = tables + sum(len(steps) - 1 + sum(map(len, steps)) for steps in self.rows if steps)


def _run(steps: list[list[int]], table: list[mpz], modulus: mpz) -> mpz:
    result = mpz(1)
    for entries in steps:
        result = result * result % modulus
        for entry in entries:
            result = result * table[entry] % modulus
    return result


def sliding_windows(exponent: int, width: int) -> list[tuple[int, int]]:
    """Write an exponent as sum of digit * 2^position, digits odd and below 2^(width - 1) in size, at most one in `width` positions.

    Returns: (position, digit), lowest first.
    """
    found, position, size = [], 0, 1 << width
    while exponent:
        skip = (exponent & -exponent).bit_length() - 1
        exponent >>= skip
        position += skip
        digit = exponent % size
        if digit >= size // 2:
            digit -= size
        found.append((position, digit))
        exponent -= digit
    return found


def bucket_product(bases: Sequence[mpz], exponents: Sequence[int], modulus: mpz) -> mpz:
    """Return the product of base^exponent for small, signed exponents.

    Raises: CryptoError when a base with a negative exponent has no inverse.
    Cost: one multiplication a base, four for each step up to the largest absolute exponent, one inversion.
    """
    sides: tuple[list[tuple[mpz, int]], list[tuple[mpz, int]]] = ([], [])
    for base, exponent in zip(bases, exponents, strict=True):
        if exponent:
            sides[exponent < 0].append((base, abs(exponent)))
    plus, minus = (_positive_product(side, modulus) for side in sides)
    return plus * invert_batch([minus], modulus)[0] % modulus


def _positive_product(powers: list[tuple[mpz, int]], modulus: mpz) -> mpz:
    buckets: dict[int, mpz] = {}
    for base, exponent in powers:
        buckets[exponent] = buckets[exponent] * base % modulus if exponent in buckets else base
    running = result = mpz(1)
    for exponent in range(max(buckets, default=0), 0, -1):  # a base in bucket e is in `running` for e of the steps
        if exponent in buckets:
            running = running * buckets[exponent] % modulus
        result = result * running % modulus
    return result
