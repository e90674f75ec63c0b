"""The vector kernel against GMP: bit for bit, for every size of number that a key can have, and at the edges of ranges."""

import random

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdl.crypto.arithmetic.vector import emit
from ppdl.crypto.arithmetic.vector.compiled import missing_features
from ppdl.crypto.arithmetic.vector.digits import bytes_to_digits, from_digits, num_digits_for, to_digits
from ppdl.crypto.arithmetic.vector.ring import Ring, aligned, as_program, in_threads

pytestmark = pytest.mark.skipif(bool(missing_features()), reason="this processor has no AVX-512 IFMA")
SIZES = [16, 32, 64, 511, 512, 513, 1024, 1536, 2048, 3072, 4096]  # bits of m: p, q or n of keys of 64 to 4096 bits
RNG = random.Random(20220314)


def moduli(bits: int) -> list[int]:
    """Odd numbers of a size: the extreme ones, one with low digits of ones, one with nearly all digits zero, and a random one."""
    low = min(bits - 2, 104)
    top = 1 << (bits - 1)
    return [top + 1, 2 * top - 1, top | (1 << low) - 1, top + 1 | 1 << (bits // 2), top | RNG.getrandbits(bits) | 1]


def residues(m: int) -> list[mpz]:
    """Numbers below m^2 at the edges, multiples of m, ones all of whose digits are ones, and random ones."""
    square = m * m
    ones = (1 << (square.bit_length() - 1)) - 1
    return [mpz(x) for x in (0, 1, 2, m - 1, m, m + 1, square - m, square - 1, ones, *(RNG.randrange(square) for _ in range(5)))]


def multiply(ring: Ring, pairs: list[tuple[mpz, mpz]]) -> list[mpz]:
    """Multiply eight pairs at a time: x R times y R is x y R, and a product with 1 leaves Montgomery form."""
    found = []
    for start in range(0, len(pairs), 8):
        some = pairs[start : start + 8] + [(mpz(1), mpz(1))] * (8 - len(pairs[start : start + 8]))
        inputs = np.concatenate([ring.montgomery([x for x, _ in some]), ring.montgomery([y for _, y in some])])
        rows, outputs = aligned(inputs.shape), aligned((8, ring.row_words))
        rows[:] = inputs
        held = ring.registers(3, ring.one[None])
        steps = [(emit.LOAD, 1, 0, 1), (emit.LOAD, 2, 8, 1), (emit.MULTIPLY, 1, 1, 2), (emit.MULTIPLY, 1, 1, 0), (emit.STORE, 1, 0, 1)]
        ring.run(as_program(steps), held, inputs=rows, outputs=outputs)
        found += ring.numbers(outputs)
    return found[: len(pairs)]


@pytest.mark.parametrize("bits", SIZES)
def test_products_are_those_of_gmp(bits):
    for m in moduli(bits):
        ring, numbers = Ring(m), residues(m)
        pairs = [(x, y) for x in numbers for y in numbers]
        assert multiply(ring, pairs) == [x * y % ring.square for x, y in pairs]


def test_a_product_of_others_may_be_zero():
    """The kernel gives m^2 then, as m + (m - 1) m."""
    p, q = mpz(2) ** 256 - 189, mpz(2) ** 250 - 207
    assert multiply(Ring(p * q), [(p * p, q * q), (p * p * 3, q * q), (p, q)]) == [0, 0, p * q]


@pytest.mark.parametrize("bits", SIZES)
def test_squares_and_chains_of_them_are_those_of_gmp(bits):
    """A hundred products one after the other, without a reduction in between: digits stay in range."""
    for m in moduli(bits)[:3]:
        ring, numbers = Ring(m), residues(m)[:8]
        held, outputs = ring.registers(2, ring.one[None]), aligned((8, ring.row_words))
        square = (emit.MULTIPLY, 1, 1, 1)
        program = as_program([(emit.LOAD, 1, 0, 1), *[square] * 100, (emit.MULTIPLY, 1, 1, 0), (emit.STORE, 1, 0, 1)])
        ring.run(program, held, inputs=ring.montgomery(numbers), outputs=outputs)
        assert ring.numbers(outputs) == [gmpy2.powmod(x, 1 << 100, ring.square) for x in numbers]


@pytest.mark.parametrize("bits", SIZES)
def test_a_sum_of_five_products_is_a_factor_again(bits):
    """What emit.py's bound allows, at its edge: the largest digits that products have, added four times, then squared."""
    for m in moduli(bits):
        ring, numbers = Ring(m), residues(m)[:8]
        held, outputs = ring.registers(4, np.stack([ring.one, ring.unit])), aligned((8, ring.row_words))
        steps = [(emit.LOAD, 2, 0, 1), (emit.MULTIPLY, 2, 2, 1), (emit.ADD, 3, 2, 2)]
        steps += [(emit.ADD, 3, 3, 2)] * 3 + [(emit.MULTIPLY, 3, 3, 3), (emit.MULTIPLY, 3, 3, 0), (emit.STORE, 3, 0, 1)]
        ring.run(as_program(steps), held, inputs=ring.montgomery(numbers), outputs=outputs)
        assert ring.numbers(outputs) == [25 * x * x % ring.square for x in numbers]


def test_an_operation_may_write_where_it_reads():
    ring, x, y = Ring(2**512 - 569), mpz(3) ** 400, mpz(5) ** 300
    for c in (1, 2, 3):
        held, outputs = ring.registers(4, ring.one[None]), aligned((8, ring.row_words))
        inputs = ring.montgomery([x] * 8 + [y] * 8)
        steps = [(emit.LOAD, 1, 0, 1), (emit.LOAD, 2, 8, 1), (emit.MULTIPLY, c, 1, 2), (emit.MULTIPLY, c, c, 0), (emit.STORE, c, 0, 1)]
        ring.run(as_program(steps), held, inputs=inputs, outputs=outputs)
        assert ring.numbers(outputs) == [x * y % ring.square] * 8


@pytest.mark.parametrize("bits", [32, 512, 1536, 2048])
@pytest.mark.parametrize("num", [1, 7, 8, 9, 30])
def test_numbers_of_any_size_are_split(bits, num):
    """Up to the largest that the pieces hold, which is beyond m^2."""
    m = moduli(bits)[-1]
    ring = Ring(m)
    for size in (1, bits // 8, bits // 4, bits // 2):
        numbers = [mpz(RNG.getrandbits(8 * size)) for _ in range(num)]
        numbers[0], numbers[-1] = mpz(0), mpz((1 << 8 * size) - 1)
        array = np.frombuffer(b"".join(x.to_bytes(size, "big") for x in numbers), np.uint8).reshape(num, size)
        for threads in (1, 2):
            rows = ring.split(array, threads)
            assert rows.shape == (num, ring.row_words)
            low, high = ring.halves(rows)
            assert max(low) < 7 * ring.m and max(high) < 7 * ring.m  # factors of a product may have that
            assert [(a0 + a1 * ring.m - x) % ring.square for a0, a1, x in zip(low, high, numbers, strict=True)] == [0] * num


@given(st.integers(1, 40).map(lambda half: 2 * half), st.data())
@settings(max_examples=50)
def test_digits_and_back(num_digits, data):
    numbers = [mpz(x) for x in data.draw(st.lists(st.integers(0, (1 << 52 * num_digits) - 1), min_size=1, max_size=5))]
    digits = to_digits(numbers, num_digits)
    assert digits.shape == (len(numbers), num_digits) and int(digits.max()) < 1 << 52
    assert [sum(int(d) << 52 * i for i, d in enumerate(row)) for row in digits] == numbers
    assert from_digits(digits) == numbers
    size = num_digits // 2 * 13
    array = np.frombuffer(b"".join(x.to_bytes(size, "big") for x in numbers), np.uint8).reshape(-1, size)
    assert (bytes_to_digits(array, num_digits) == digits).all()


def test_every_size_has_the_slack_that_its_bound_needs():
    for bits in range(8, 4097):
        k = num_digits_for(bits)
        assert k % emit.TILE == 0 and 52 * k >= bits + 8 > 52 * (k - emit.TILE)
        # the columns of emit.py: 6 k words below 2^52 and a carry below them fit into 63 bits
        assert (6 * k + 1) << 52 < 1 << 63


def test_shares_of_threads_cover_everything_once():
    for num_items, num_threads in ((0, 2), (1, 4), (7, 3), (8, 2), (9, 16)):
        seen: list[int] = []
        in_threads(seen.extend, num_items, num_threads)
        assert sorted(seen) == list(range(num_items))
