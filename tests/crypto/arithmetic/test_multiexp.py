"""Products of powers: what pow gives, in as many multiplications as a plan says."""

from itertools import pairwise
from math import prod

import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdl.crypto.arithmetic import multiexp
from ppdl.crypto.arithmetic.multiexp import StrausPlan, bucket_product, sliding_windows
from ppdl.errors import CryptoError

MODULUS = 1_000_003 * 1_000_033
bases = st.integers(2, 1_000_002)  # below both primes, so that each has an inverse


@given(st.integers(-(2**200), 2**200), st.integers(2, 7))
def test_windows_add_up_to_the_exponent_and_keep_their_distance(exponent, width):
    digits = sliding_windows(exponent, width)
    assert sum(digit << position for position, digit in digits) == exponent
    assert all(digit % 2 and abs(digit) < 1 << (width - 1) for _, digit in digits)
    places = [position for position, _ in digits]
    assert all(b - a >= width for a, b in pairwise(places))


@given(st.data())
@settings(max_examples=60)
def test_straus_and_buckets_give_what_pow_gives(data):
    chosen = data.draw(st.lists(bases, min_size=1, max_size=6))
    sizes = data.draw(st.sampled_from([1, 7, 128, 2**90]))
    row = st.lists(st.integers(-sizes, sizes), min_size=len(chosen), max_size=len(chosen))
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    expected = [prod(pow(b, e, MODULUS) for b, e in zip(chosen, exponents, strict=True)) % MODULUS for exponents in rows]
    numbers, modulus = [mpz(b) for b in chosen], mpz(MODULUS)
    assert StrausPlan(rows).products(numbers, modulus) == expected
    if sizes <= 128:
        assert [bucket_product(numbers, exponents, modulus) for exponents in rows] == expected


class Counted:
    """A number that counts the multiplications it takes part in; reductions do not count."""

    count = 0

    def __init__(self, value: int) -> None:
        self.value = value

    def __mul__(self, other: "Counted | int") -> "Counted":
        Counted.count += 1
        return Counted(self.value * int(other))

    __rmul__ = __mul__

    def __mod__(self, modulus: int) -> "Counted":
        return Counted(self.value % modulus)

    def __int__(self) -> int:
        return self.value


@pytest.mark.parametrize("exponents", [[[5, 2**40 + 3, 0], [-127, 1, 2**61 - 1]], [[2**40 + 1, 4, 0], [1, 2**9, 2**20 + 1]]])
def test_the_plan_counts_its_multiplications(monkeypatch, exponents):
    def invert(numbers: list[Counted], modulus: int) -> list[Counted]:
        Counted.count += 3 * len(numbers)
        return [Counted(pow(int(number), -1, modulus)) for number in numbers]

    monkeypatch.setattr(multiexp, "invert_batch", invert)
    Counted.count = 0
    plan = StrausPlan(exponents)
    found = plan.products([Counted(b) for b in (3, 5, 7)], MODULUS)
    assert [int(x) for x in found] == [prod(pow(b, e, MODULUS) for b, e in zip((3, 5, 7), row, strict=True)) % MODULUS for row in exponents]
    assert Counted.count == plan.num_multiplications


def test_every_base_needs_an_exponent():
    for exponents in ([1], [1, 2, 3]):
        with pytest.raises(ValueError, match="zip"):
            bucket_product([mpz(3), mpz(5)], exponents, mpz(MODULUS))


def test_long_exponents_share_their_squarings():
    assert StrausPlan([[1]]).num_multiplications == 2  # what the narrowest window needs: its table, and one
    one, many = StrausPlan([[2**600 + 1]]), StrausPlan([[2**600 + 1] * 10])
    assert many.num_multiplications < 2 * one.num_multiplications


def test_a_base_without_an_inverse_is_refused_where_it_needs_one():
    assert bucket_product([mpz(1_000_003)], [2], mpz(MODULUS)) == 1_000_003**2 % MODULUS
    with pytest.raises(CryptoError, match="factor in common"):
        bucket_product([mpz(1_000_003)], [-2], mpz(MODULUS))
    with pytest.raises(CryptoError, match="factor in common"):
        StrausPlan([[-2]]).products([mpz(1_000_003)], mpz(MODULUS))
