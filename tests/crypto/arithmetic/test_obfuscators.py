import pickle
import secrets

import gmpy2
import numpy as np
import pytest

from ppdl.crypto.arithmetic import obfuscators
from ppdl.crypto.arithmetic.numbers import to_array
from ppdl.crypto.arithmetic.obfuscators import (
    KINDS,
    DjnObfuscators,
    OwnerDjnObfuscators,
    OwnerStandardObfuscators,
    StandardObfuscators,
    base_of,
    build_obfuscators,
    combine_squares,
    exponent_bits_of,
)
from ppdl.crypto.arithmetic.paillier import decrypt_batch
from ppdl.crypto.arithmetic.powertable import Windows, build_power_table, choose_window_bits, window_widths
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, generate_keypair
from ppdl.errors import CryptoError
from tests.crypto.arithmetic.exponents import cut


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_keypair(256, allow_insecure_key=True)


@pytest.fixture(scope="module")
def large_key() -> PrivateKey:
    return generate_keypair(2048)


def edge_exponents(bits: int, window_bits: int) -> list[int]:
    """Exponents at the edges of the range, of each window and of the truncated top window."""
    starts = range(0, bits, window_bits)
    edges = {0, 1, 2, (1 << bits) - 1, (1 << bits) - 2, 1 << (bits - 1)}
    for start in starts:
        edges |= {1 << start, (1 << start) - 1, min((1 << (start + window_bits)), 1 << bits) - 1}
    top = starts[-1]
    return sorted(edges | {((1 << (bits - top)) - 1) << top})


@pytest.mark.parametrize("window_bits", [1, 2, 3, 5, 7, 8, 11, 12, 16])
@pytest.mark.parametrize("bits", [16, 37, 128])
def test_tables_give_the_powers_that_gmp_gives(key, bits, window_bits):
    base, n, modulus = base_of(key.public), gmpy2.mpz(key.public.n), key.public.n_squared
    windows = Windows(bits, window_bits)
    assert sum(windows.widths) == bits and len(windows.widths) == -(-bits // window_bits)
    exponents = edge_exponents(bits, window_bits) + [secrets.randbits(bits) for _ in range(50)]
    digits = cut(windows, exponents)
    assert digits.dtype == np.uint16 and digits.shape == (len(windows.widths), len(exponents))
    table, expected = build_power_table(base, n, windows), [gmpy2.powmod(base, a, modulus) for a in exponents]
    assert table.powers(digits) == expected
    plaintexts = [gmpy2.mpz(m) for m in (0, 1, key.public.n - 1, *(secrets.randbelow(key.public.n) for _ in exponents[3:]))]
    assert table.powers(digits, plaintexts) == [(1 + m * n) * r % modulus for m, r in zip(plaintexts, expected, strict=True)]


def test_tables_at_full_size(large_key):
    base, modulus = base_of(large_key.public), large_key.public.n_squared
    windows = Windows(1024, 7)  # 1024 = 146 * 7 + 2: a truncated top window
    table = build_power_table(base, gmpy2.mpz(large_key.public.n), windows)
    exponents = [0, 1, 2**1024 - 1, 2**1022 - 1, 3 << 1022, *(secrets.randbits(1024) for _ in range(20))]
    assert windows.widths[-1] == 2
    assert table.powers(cut(windows, exponents)) == [gmpy2.powmod(base, a, modulus) for a in exponents]


def test_every_unit_is_drawn():
    """One of the eight is missing among 400 by chance in one of 10^22 runs."""
    assert {obfuscators.random_unit(15) for _ in range(400)} == {1, 2, 4, 7, 8, 11, 13, 14}


def test_parts_that_do_not_belong_together_are_refused(key):
    """Rather than left out: a product of fewer windows, or fewer numbers."""
    with pytest.raises(ValueError, match=r"zip|digits must be uint16 of 8 windows and below 32, got uint16 \(4, 1\)"):
        build_power_table(gmpy2.mpz(3), gmpy2.mpz(101), Windows(37, 5)).powers(cut(Windows(20, 5), [1]))
    with pytest.raises(ValueError, match="zip"):
        combine_squares(key.crt, [1, 2], [1])


def test_random_digits_fill_their_windows_and_no_more():
    digits = Windows(21, 8).random_digits(20_000)  # windows of 8, 8 and 5 bits
    assert digits.shape == (3, 20_000) and digits.dtype == np.uint16
    for window, width in zip(digits, (8, 8, 5), strict=True):
        counts = np.bincount(window, minlength=1 << width)
        assert len(counts) == 1 << width
        expected = 20_000 / (1 << width)
        # chi-squared, 6 standard deviations: fails by chance once in some hundred million runs
        assert ((counts - expected) ** 2 / expected).sum() < (1 << width) + 6 * (2 << width) ** 0.5


@pytest.mark.parametrize("key_bits, bits", [(2048, 1024), (3072, 1536), (17, 9)])
def test_exponents_have_the_published_length(key_bits, bits):
    assert exponent_bits_of(PublicKey((1 << key_bits) - 1)) == bits
    assert sum(window_widths(bits, 12)) == bits


def test_owner_tables_and_public_tables_give_the_same_powers(key):
    public, owner = DjnObfuscators(key.public, table_bytes=2**20), OwnerDjnObfuscators(key, table_bytes=2**20)
    digits = cut(public._windows, [0, 1, 2**128 - 1, *(secrets.randbits(128) for _ in range(100))])
    owner._windows.random_digits = lambda num: digits[:, :num]
    assert public.window_bits == owner.window_bits
    assert owner.draw(digits.shape[1]) == public._table.powers(digits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("owner", [False, True])
def test_obfuscators_hide_zero_and_differ(key, kind, owner):
    source = build_obfuscators(key if owner else key.public, kind, table_bytes=2**20)
    drawn = source.draw(200)
    assert source.public_key == key.public and len(set(drawn)) == 200
    n, n_squared = key.public.n, key.public.n_squared
    assert all(0 < r < n_squared for r in drawn)
    assert set(decrypt_batch(key, to_array(key.public, drawn))) == {0}
    # an n-th residue: it has order dividing phi(n), so that its power is 1
    assert {gmpy2.powmod(r, (key.p - 1) * (key.q - 1), n_squared) for r in drawn} == {1}
    assert len({r % n for r in drawn}) == 200
    assert source.draw(0) == []


@pytest.mark.parametrize("kind", KINDS)
def test_full_size_obfuscators_decrypt_to_zero_for_phe(large_key, kind):
    for key in (large_key, large_key.public):
        source = build_obfuscators(key, kind, num_ciphertexts=3)
        assert [large_key.phe.raw_decrypt(int(r)) for r in source.draw(3)] == [0, 0, 0]


def test_standard_owner_obfuscators_are_all_nth_residues():
    """With a tiny key every n-th residue can be listed: both sources reach the same set."""
    key = PrivateKey(PublicKey(11 * 5003), 11, 5003)
    residues = {pow(r, key.public.n, key.public.n_squared) for r in range(1, key.public.n) if gmpy2.gcd(r, key.public.n) == 1}
    for source in (StandardObfuscators(key.public), OwnerStandardObfuscators(key)):
        drawn = source.draw(2000)
        assert set(map(int, drawn)) <= residues
        assert len({r % 11 for r in drawn}) == 10  # uniform over the small factor: all residues appear


def test_djn_needs_h(key):
    foreign = PublicKey(key.public.n)
    with pytest.raises(CryptoError, match=f"obfuscator djn needs .* key {foreign.fingerprint[:16]}... has no h; use obfuscator=standard"):
        build_obfuscators(foreign, "djn")
    assert decrypt_batch(key, to_array(foreign, build_obfuscators(foreign, "standard").draw(1))) == [0]


def test_degenerate_h_is_refused():
    """A hostile key, q = 1 (mod p): h = 1 (mod p) and of order p mod q gives h^n = 1 (mod n^2), and nothing would be hidden."""
    p = 10007
    q = next(q for q in range(2 * p + 1, 10**7, 2 * p) if gmpy2.is_prime(q) and q % 4 == 3)
    of_order_p = next(g for g in (pow(x, (q - 1) // p, q) for x in range(2, 100)) if g != 1)
    h = 1 + p * ((of_order_p - 1) * pow(p, -1, q) % q)
    hostile = PublicKey(p * q, h)
    assert pow(h, hostile.n, hostile.n_squared) == 1
    with pytest.raises(CryptoError, match=f"the h of key {hostile.fingerprint[:16]}... is degenerate"):
        build_obfuscators(hostile, "djn")


def test_unknown_kind_is_refused(key):
    with pytest.raises(CryptoError, match="obfuscator must be one of djn, standard, got 'none'"):
        build_obfuscators(key.public, "none")


@pytest.mark.parametrize("kind", KINDS)
def test_owner_sources_cannot_be_pickled_or_printed(key, kind):
    source = build_obfuscators(key, kind, table_bytes=2**20)
    with pytest.raises(TypeError, match="holds private key material"):
        pickle.dumps(source)
    assert "not shown" in repr(source) and str(key.p) not in repr(source)


@pytest.mark.parametrize("kind", KINDS)
def test_public_sources_pickle(key, kind):
    source = pickle.loads(pickle.dumps(build_obfuscators(key.public, kind, table_bytes=2**18)))  # noqa: S301 - made here
    assert decrypt_batch(key, to_array(key.public, source.draw(1))) == [0]


def test_no_source_repeats_itself_after_a_fork_or_pickle(key):
    source = build_obfuscators(key.public, table_bytes=2**18)
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - made here
    assert not set(source.draw(50)) & set(again.draw(50))


def test_window_follows_the_memory_budget():
    sizes = [choose_window_bits(1024, 512, table_bytes) for table_bytes in (2**21, 2**24, 2**26, 2**28, 2**30)]
    assert sizes == sorted(sizes) and sizes[3] == 12
    for table_bytes, window_bits in zip((2**21, 2**24, 2**26, 2**28), sizes, strict=False):
        assert sum(1 << width for width in window_widths(1024, window_bits)) * (512 + 64) <= table_bytes


@pytest.mark.parametrize("window_bits", [2, 4, 7])
def test_a_table_may_fill_its_budget_to_the_last_byte(window_bits):
    exactly = sum(1 << width for width in window_widths(64, window_bits)) * (100 + 64)
    assert choose_window_bits(64, 100, exactly) == window_bits
    if window_bits > 2:
        assert choose_window_bits(64, 100, exactly - 1) == window_bits - 1
    else:
        with pytest.raises(CryptoError, match=f"too small for any table: 64-bit exponents need at least {exactly} bytes"):
            choose_window_bits(64, 100, exactly - 1)


def test_a_source_counts_its_numbers_mod_n_squared(key):
    """At 256 bits: 32 windows of 4 bits, 16 numbers each, of 64 bytes and 64 of overhead."""
    for source, owner in ((DjnObfuscators, key.public), (OwnerDjnObfuscators, key)):
        assert [source(owner, table_bytes=32 * 16 * 128 - less).window_bits for less in (0, 1)] == [4, 3]


def test_by_default_a_full_size_key_has_windows_of_12_bits(large_key, monkeypatch):
    monkeypatch.setattr(obfuscators, "build_power_table", lambda *arguments: None)  # they would take seconds
    assert build_obfuscators(large_key).window_bits == build_obfuscators(large_key.public).window_bits == 12


def test_small_jobs_get_small_tables_and_all_others_the_same():
    windows = [choose_window_bits(1024, 512, 2**28, num) for num in (1, 10, 100, 1000, 5000, 10**4, 10**6, None)]
    assert windows == sorted(windows) and windows[0] == 2 and windows[4:] == [12] * 4

    def cost(window_bits, num):
        widths = window_widths(1024, window_bits)
        return sum(1 << width for width in widths) + num * len(widths)

    for num, window_bits in ((1, windows[0]), (10, windows[1]), (1000, windows[3])):
        assert cost(window_bits, num) == min(cost(w, num) for w in range(1, 13))


def test_budget_without_room_is_refused(key):
    with pytest.raises(CryptoError, match="table_bytes=1000 is too small for any table: 128-bit exponents need at least 32768 bytes"):
        DjnObfuscators(key.public, table_bytes=1000)
