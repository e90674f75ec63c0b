"""Powers, tables and plans as programs of the vector kernel, against GMP."""

import pickle
import random

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz

from ppdl.crypto.arithmetic.linear_plan import plan_linear
from ppdl.crypto.arithmetic.obfuscators import StandardObfuscators
from ppdl.crypto.arithmetic.paillier import decrypt_batch, encrypt_batch
from ppdl.crypto.arithmetic.powers import powers
from ppdl.crypto.arithmetic.powertable import GmpPowerTable, Windows
from ppdl.crypto.arithmetic.vector import emit
from ppdl.crypto.arithmetic.vector.compiled import missing_features
from ppdl.crypto.arithmetic.vector.fixed_base import FixedBase
from ppdl.crypto.arithmetic.vector.linear import GROUPS_AT_A_TIME, LinearProgram
from ppdl.crypto.arithmetic.vector.multiexp import LaneProducts
from ppdl.crypto.arithmetic.vector.power import Power, _fixed_windows
from ppdl.crypto.arithmetic.vector.ring import Ring
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import CryptoError

pytestmark = pytest.mark.skipif(bool(missing_features()), reason="this processor has no AVX-512 IFMA")
RNG = random.Random(1978)
EXPONENTS = [1, 2, 3, 31, 32, 33, 2**10, 2**10 - 1, 0b1000001000001, (1 << 70) - 1, RNG.getrandbits(130) | 1 << 129]


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_powers_are_those_of_gmp(exponent, private):
    for bits in (32, 520):
        ring = Ring(RNG.getrandbits(bits) | 1 << bits - 1 | 1)
        bases = [mpz(x) for x in (0, 1, ring.m, ring.square - 1, *(RNG.randrange(int(ring.square)) for _ in range(15)))]
        found = Power(exponent, private=private).of(ring, ring.rows(bases))
        assert ring.numbers(found) == [gmpy2.powmod(x, exponent, ring.square) for x in bases]
        low, high = ring.halves(found)
        assert max(low) <= ring.m and max(high) <= ring.m


def test_the_same_program_on_one_and_on_more_threads():
    ring, exponent = Ring(RNG.getrandbits(512) | 1 << 511 | 1), RNG.getrandbits(200)
    bases = ring.rows([mpz(RNG.randrange(int(ring.square))) for _ in range(43)])
    power = Power(exponent, private=True)
    expected = power.of(ring, bases)
    for num_threads in (2, 3, 7):
        assert (power.of(ring, bases, num_threads=num_threads) == expected).all()


def test_a_private_exponent_shows_in_no_step_but_in_what_is_selected():
    """Exponents of one length give the same operations on the same registers; only the number that SELECT compares with differs."""
    programs = [_fixed_windows(exponent) for exponent in ((1 << 100) - 1, 1 << 99, RNG.getrandbits(100) | 1 << 99)]
    shown = [[step[:3] if step[0] == emit.SELECT else step for step in program] for program in programs]
    assert shown[0] == shown[1] == shown[2] and programs[0] != programs[1]


@pytest.mark.parametrize("window_bits", [1, 3, 8])
@pytest.mark.parametrize("num", [1, 8, 9, 1100])
def test_tables_are_those_of_gmp(window_bits, num):
    m = mpz(RNG.getrandbits(256) | 1 << 255 | 1)
    windows, base = Windows(37, window_bits), mpz(RNG.randrange(int(m * m)))
    tables = [kind(base, m, windows.widths) for kind in (FixedBase, GmpPowerTable)]
    digits, plaintexts = windows.random_digits(num), [mpz(RNG.randrange(int(m))) for _ in range(num)]
    ours, gmp = (table.powers(digits, plaintexts) for table in tables)
    assert ours == gmp and tables[0].powers(digits) == tables[1].powers(digits)


def test_digits_that_no_table_has_are_refused():
    """The kernel itself checks nothing: it would read other memory."""
    table = FixedBase(mpz(3), mpz(101), [4, 4, 2])
    with pytest.raises(ValueError, match=r"digits must be uint16 of 3 windows and below 16, got uint16 \(2, 1\)"):
        table.powers(np.zeros((2, 1), np.uint16))
    with pytest.raises(ValueError, match="below 16"):
        table.powers(np.full((3, 1), 16, np.uint16))
    with pytest.raises(ValueError, match="got int64"):
        table.powers(np.full((3, 1), -1))  # 65535 as uint16


def test_fewer_numbers_than_a_program_reads_are_refused():
    ring = Ring(101)
    for bases, units in ([5, 7], [9]), ([5, 7, 9], []), ([5, 7], [9, 11]), ([5, 7, 9], [11, 13]):
        with pytest.raises(CryptoError, match=f"3 bases and 1 units are to be multiplied up, got {len(bases)} and {len(units)}"):
            LaneProducts([[1, 2, 3]], 4).products(ring, [mpz(x) for x in bases], [mpz(x) for x in units], 15)
    for power in (16, -1):
        with pytest.raises(CryptoError, match="the power must have at most 4 bits and no sign"):
            LaneProducts([[1, 2, 3]], 4).products(ring, [mpz(5)] * 3, [mpz(7)], power)
    program = LinearProgram((1 << 64) - 59, plan_linear(np.array([[1, 2]])))
    for shape in (1, 8, 16), (2, 8, 15):
        with pytest.raises(CryptoError, match=f"2 inputs of 16 bytes, got {shape[0]} of {shape[2]}"):
            program.run(np.ones(shape, np.uint8))


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("exponent", [0, -3])
def test_exponents_below_1_are_refused(exponent, private):
    with pytest.raises(ValueError, match="at least 1"):
        Power(exponent, private=private)


@pytest.mark.parametrize("num_groups", [1, 8, 13, GROUPS_AT_A_TIME])
@pytest.mark.parametrize("weights", [[[1, 2, 3]], [[3, -5, 7], [0, 0, -1], [1, 1, 1]], [[-1, 0, 0]], [[0, 1, 0], [0, 1, 0]]])
def test_plans_are_weighted_products(num_groups, weights):
    key = generate_keypair(256, allow_insecure_key=True)
    n_squared, plan = key.public.n_squared, plan_linear(np.array(weights))
    inputs = [[mpz(RNG.randrange(1, n_squared)) for _ in range(num_groups)] for _ in range(3)]
    planes = np.array([[list(x.to_bytes(64, "big")) for x in plane] for plane in inputs], np.uint8)
    found = LinearProgram(key.public.n, plan).run(planes)
    expected = []
    for row in weights:
        expected.append([mpz(1)] * num_groups)
        for plane, weight in zip(inputs, row, strict=True):
            expected[-1] = [x * gmpy2.powmod(c, weight, n_squared) % n_squared for x, c in zip(expected[-1], plane, strict=True)]
    assert found == expected


def test_a_ciphertext_without_an_inverse_is_refused():
    key = generate_keypair(256, allow_insecure_key=True)
    planes = np.frombuffer(int(key.p).to_bytes(64, "big"), np.uint8).reshape(1, 1, 64)
    with pytest.raises(CryptoError, match="factor in common with n"):
        LinearProgram(key.public.n, plan_linear(np.array([[-1]]))).run(planes)


@pytest.mark.parametrize("wrong", [lambda key: key.p, lambda key: key.q, lambda key: key.public.n, lambda key: key.p * 12345])
@pytest.mark.parametrize("row", [0, 9, 1030])
def test_the_row_of_a_number_that_no_encryption_gives_is_named(wrong, row, monkeypatch):
    """Fermat's digit takes the place of a greatest common divisor."""
    monkeypatch.setenv("PPDL_ENGINE", "vector")
    key = generate_keypair(64, allow_insecure_key=True)
    array = np.tile(np.frombuffer((1 + 5 * key.public.n).to_bytes(16, "big"), np.uint8), (1100, 1))
    assert decrypt_batch(key, array)[::50] == [5] * 22
    array[row] = np.frombuffer(int(wrong(key)).to_bytes(16, "big"), np.uint8)
    with pytest.raises(CryptoError, match=f"ciphertext {row} has a factor in common with n"):
        decrypt_batch(key, array)


@pytest.mark.parametrize("key_bits", [64, 80, 256, 1024, 2048, 3072, 4096])
def test_both_engines_decrypt_alike(key_bits, monkeypatch):
    key = generate_keypair(key_bits, allow_insecure_key=True)
    messages = [0, 1, key.public.n - 1, *(RNG.randrange(key.public.n) for _ in range(6))]
    array = encrypt_batch(key.public, messages, StandardObfuscators(key.public))
    for engine in ("vector", "gmpy2"):
        monkeypatch.setenv("PPDL_ENGINE", engine)
        assert decrypt_batch(key, array) == decrypt_batch(key, array, num_threads=2) == messages


def test_what_may_hold_primes_is_not_shown_and_not_pickled():
    key = generate_keypair(64, allow_insecure_key=True)
    assert powers([2], 5, key.p, private=True) == [32]
    for value in (Ring(key.p), Power(key.p - 1, private=True), FixedBase(mpz(2), mpz(key.p), [2])):
        assert str(key.p) not in repr(value) and "not shown" in repr(value)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(value)


@pytest.mark.parametrize("num_products", [1, 2, 3, 5, 8, 9, 19])
@pytest.mark.parametrize("num_bases", [1, 2, 7, 30])
@pytest.mark.parametrize("power_bits", [1, 64, 500])
def test_products_of_powers_are_those_of_gmp(num_products, num_bases, power_bits):
    ring = Ring(RNG.getrandbits(256) | 1 << 255 | 1)
    largest = RNG.choice([1, 127, 2**66 * 127, 2**300])
    exponents = [[RNG.randint(-largest, largest) for _ in range(num_bases)] for _ in range(num_products)]
    exponents[0], exponents[-1][0] = [0] * num_bases, -largest
    drawn = (mpz(RNG.randrange(int(ring.square))) for _ in range(20 * (num_bases + num_products)))
    coprime = [x for x in drawn if gmpy2.gcd(x, ring.m) == 1]
    bases, units = coprime[:num_bases], coprime[num_bases : num_bases + num_products]
    power = RNG.choice([0, (1 << power_bits) - 1, 1 << (power_bits - 1), RNG.getrandbits(power_bits)])
    expected = []
    for row, unit in zip(exponents, units, strict=True):
        expected.append(gmpy2.powmod(unit, power, ring.square))
        for base, exponent in zip(bases, row, strict=True):
            expected[-1] = expected[-1] * gmpy2.powmod(base, exponent, ring.square) % ring.square
    assert LaneProducts(exponents, power_bits).products(ring, bases, units, power) == expected


def test_more_bases_than_a_table_counts_are_refused():
    with pytest.raises(CryptoError, match="at most 21845 bases can be multiplied up at once, got 30001"):
        LaneProducts([[1] * 30000], 1)
