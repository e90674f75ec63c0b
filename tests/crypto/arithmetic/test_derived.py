"""Randomness that a secret and a message determine: the same again, uniform below any bound, and as the two standards say."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppdl.crypto.arithmetic.derived import DerivedRandomness

SECRET = bytes(range(32))


def test_draws_are_those_of_hmac_and_hkdf_expand():
    """Computed from RFC 2104 and RFC 5869 with hmac alone: T(1) = HMAC(PRK, info | 0x01), T(2) = HMAC(PRK, T(1) | info | 0x02)."""
    found = DerivedRandomness(SECRET, b"ab", b"")
    message = (2).to_bytes(8, "big") + b"ab" + bytes(8)
    key = hmac.new(SECRET, message, hashlib.sha256).digest()

    def expanded(number: int, size: int) -> bytes:
        info, block, data = number.to_bytes(8, "big"), b"", b""
        for counter in range(1, 1 + -(-size // 32)):
            block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
            data += block
        return data[:size]

    assert found.randbelow(1 << 512) == int.from_bytes(expanded(0, 64), "big")
    assert found.randbelow(1 << 9) == int.from_bytes(expanded(1, 2), "big") >> 7
    bound = (1 << 15) + 1  # 16 bits, of which nearly half the values are too large
    values = [int.from_bytes(expanded(number, 2), "big") for number in range(2, 60)]
    assert [found.randbelow(bound) for _ in range(10)] == [value for value in values if value < bound][:10]


def test_the_golden_draw():
    """What answers are computed again from: another value here is another answer to a retry, after an update of the server."""
    found = DerivedRandomness(SECRET, b"PPDL private inference 1", b"query")
    assert [found.randbelow(10**9), found.randbelow(1), found.randbelow(10**18)] == [276531132, 0, 881038956928796717]


@given(st.integers(1, 1 << 300), st.lists(st.binary(max_size=5), max_size=4))
def test_a_draw_is_below_its_bound_and_the_same_again(bound, parts):
    first, again = (DerivedRandomness(SECRET, *parts) for _ in range(2))
    drawn = [first.randbelow(bound) for _ in range(4)]
    assert drawn == [again.randbelow(bound) for _ in range(4)]
    assert all(0 <= number < bound for number in drawn)


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_other_parts_are_another_message(parts, other):
    same = DerivedRandomness(SECRET, *parts).randbelow(1 << 256) == DerivedRandomness(SECRET, *other).randbelow(1 << 256)
    assert same == (parts == other)


@pytest.mark.parametrize("bound", [2, 3, 5, 17])
def test_draws_are_uniform(bound):
    found = DerivedRandomness(SECRET, secrets.token_bytes(8))
    counts = [0] * bound
    for _ in range(4000):
        counts[found.randbelow(bound)] += 1
    assert max(abs(count - 4000 / bound) for count in counts) < 6 * (4000 / bound) ** 0.5


def test_a_short_secret_is_refused_without_being_quoted():
    with pytest.raises(ValueError, match=r"must have 32 bytes, got 4$"):
        DerivedRandomness(b"abcd")
