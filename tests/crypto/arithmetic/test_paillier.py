import json
import threading
import time
from pathlib import Path

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdl.crypto.arithmetic import paillier
from ppdl.crypto.arithmetic.numbers import check_ciphertexts, check_plaintexts, check_range, from_array, invert_batch, to_array
from ppdl.crypto.arithmetic.obfuscators import Obfuscators, build_obfuscators
from ppdl.crypto.arithmetic.paillier import (
    add_ciphertexts,
    add_plaintext,
    decrypt_batch,
    encrypt_batch,
    encrypt_batch_deterministic,
    rerandomise,
)
from ppdl.crypto.arithmetic.powertable import Windows, build_power_table
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, generate_keypair
from ppdl.errors import CryptoError
from tests.crypto.arithmetic.exponents import cut

VECTORS = Path(__file__).parents[2] / "vectors"
KEY = generate_keypair(128, allow_insecure_key=True)  # for hypothesis, which dislikes fixtures
N = KEY.public.n
SOURCE = build_obfuscators(KEY.public, table_bytes=2**18)
plaintexts = st.one_of(st.integers(0, N - 1), st.sampled_from([0, 1, N // 3, N // 2, N // 2 + 1, N - 2, N - 1]))


class Fixed(Obfuscators):
    """Give back known obfuscators, for vectors."""

    def __init__(self, public_key, numbers):
        self.public_key, self.numbers = public_key, list(numbers)

    def draw(self, num_obfuscators):
        drawn, self.numbers = self.numbers[:num_obfuscators], self.numbers[num_obfuscators:]
        return drawn


# ---- vectors


def test_golden_vector_of_phe():
    vector = json.loads((VECTORS / "paillier_phe.json").read_text())
    key = PrivateKey(PublicKey(vector["n"]), vector["p"], vector["q"])
    n, n_squared = key.public.n, key.public.n_squared
    obfuscator = gmpy2.powmod(vector["r"], n, n_squared)
    array = encrypt_batch(key.public, [vector["m"]], Fixed(key.public, [obfuscator]))
    assert array.tolist() == [list(vector["c"].to_bytes(5, "big"))] and vector["c"] == 935906717
    assert decrypt_batch(key, array) == [vector["m"]]


def test_golden_vectors_of_djn():
    vector = json.loads((VECTORS / "paillier_djn.json").read_text())
    number = {name: int(vector[name], 16) for name in "nhpq"}
    key = PrivateKey(PublicKey(number["n"], number["h"]), number["p"], number["q"])
    cases = [{name: int(text, 16) for name, text in case.items()} for case in vector["cases"]]
    base = gmpy2.powmod(key.public.h, key.public.n, key.public.n_squared)
    windows = Windows(128, 5)
    table = build_power_table(base, gmpy2.mpz(key.public.n), windows)
    obfuscators = table.powers(cut(windows, [case["a"] for case in cases]))
    assert obfuscators == [case["obfuscator"] for case in cases]
    array = encrypt_batch(key.public, [case["m"] for case in cases], Fixed(key.public, obfuscators))
    assert [bytes(row).hex() for row in array] == [case["ciphertext"] for case in vector["cases"]]
    assert decrypt_batch(key, array) == [case["m"] for case in cases]


# ---- laws


@given(st.lists(st.lists(plaintexts, min_size=3, max_size=3), min_size=1, max_size=5), st.randoms())
def test_sums_of_many_parties_decrypt_to_sums_in_any_order(parties, order):
    arrays = [encrypt_batch(KEY.public, messages, SOURCE) for messages in parties]
    total = add_ciphertexts(KEY.public, *arrays)
    assert decrypt_batch(KEY, total) == [sum(column) % N for column in zip(*parties, strict=True)]
    order.shuffle(arrays)
    assert (add_ciphertexts(KEY.public, *arrays) == total).all()


def test_parties_with_another_number_of_ciphertexts_are_refused():
    arrays = [encrypt_batch(KEY.public, range(num), SOURCE) for num in (3, 2)]
    with pytest.raises(CryptoError, match="both operands need the same number of rows, got 2 and 3"):
        add_ciphertexts(KEY.public, *arrays)


@given(st.lists(plaintexts, max_size=20))
def test_decrypt_undoes_encrypt(messages):
    array = encrypt_batch(KEY.public, messages, SOURCE)
    assert array.shape == (len(messages), 32) and array.dtype == np.uint8
    assert decrypt_batch(KEY, array) == messages


@given(st.lists(st.tuples(plaintexts, plaintexts), min_size=1, max_size=5))
def test_addition_is_homomorphic(pairs):
    left, right = zip(*pairs, strict=True)
    a = encrypt_batch(KEY.public, left, SOURCE)
    assert decrypt_batch(KEY, add_plaintext(KEY.public, a, right)) == [(x + y) % N for x, y in pairs]
    assert decrypt_batch(KEY, add_plaintext(KEY.public, a, [-m for m in right])) == [(x - y) % N for x, y in pairs]


@settings(max_examples=30)
@given(st.lists(plaintexts, min_size=1, max_size=5))
def test_rerandomising_changes_all_and_keeps_the_plaintext(messages):
    before = encrypt_batch(KEY.public, messages, SOURCE)
    after = rerandomise(KEY.public, before)
    assert decrypt_batch(KEY, after) == messages
    assert not set(map(bytes, before)) & set(map(bytes, after))


@given(st.lists(st.integers(1, N - 1).filter(lambda x: gmpy2.gcd(x, N) == 1), max_size=30))
def test_invert_batch_inverts_each(numbers):
    assert invert_batch(list(map(mpz, numbers)), mpz(N)) == [gmpy2.invert(x, N) for x in numbers]


@given(st.lists(st.integers(0, N * N - 1), max_size=20))
def test_array_round_trip(numbers):
    array = to_array(KEY.public, list(map(mpz, numbers)))
    assert from_array(KEY.public, array) == numbers
    assert [int.from_bytes(bytes(row), "big") for row in array] == numbers


# ---- what makes it randomised, or not


def test_equal_plaintexts_give_different_ciphertexts():
    array = encrypt_batch(KEY.public, [7] * 300, SOURCE)
    assert len(set(map(bytes, array))) == 300


def test_deterministic_batch_has_one_obfuscator():
    messages = list(range(50)) + list(range(50))
    array = encrypt_batch_deterministic(KEY.public, messages, SOURCE)
    assert decrypt_batch(KEY, array) == messages
    assert (array[:50] == array[50:]).all() and len(set(map(bytes, array))) == 50
    numbers = from_array(KEY.public, array)
    n, n_squared = KEY.public.n, KEY.public.n_squared
    for i in range(1, 50):  # the leak that its docstring states
        assert numbers[i] * gmpy2.invert(numbers[0], n_squared) % n_squared == 1 + i * n
    again = encrypt_batch_deterministic(KEY.public, messages, SOURCE)
    assert not set(map(bytes, array)) & set(map(bytes, again))


def test_large_batches_cross_the_batch_size(monkeypatch):
    monkeypatch.setattr(paillier, "BATCH_CIPHERTEXTS", 7)
    messages = list(range(30))
    array = encrypt_batch(KEY.public, iter(messages), SOURCE)
    assert decrypt_batch(KEY, array) == messages and len(set(map(bytes, array))) == 30


@pytest.mark.parametrize("num_threads", [1, 2, 3, 16])
@pytest.mark.parametrize("num_ciphertexts", [0, 1, 2, 63, 64, 65, 200])
def test_threads_decrypt_in_order(num_threads, num_ciphertexts):
    messages = list(range(num_ciphertexts))
    assert decrypt_batch(KEY, encrypt_batch(KEY.public, messages, SOURCE), num_threads=num_threads) == messages


def test_as_many_threads_decrypt_as_are_asked_for_and_share_the_work(monkeypatch):
    """With gmpy2; those of the vector kernel share out groups of eight, see tests/crypto/vector."""
    monkeypatch.setenv("PPDL_ENGINE", "gmpy2")
    sizes, threads, both = [], set(), threading.Barrier(2, timeout=10)
    original = paillier._decrypt_numbers

    def decrypt(crt, numbers):
        both.wait()
        sizes.append(len(numbers))
        threads.add(threading.get_ident())
        return original(crt, numbers)

    array = encrypt_batch(KEY.public, range(100), SOURCE)
    monkeypatch.setattr(paillier, "_decrypt_numbers", decrypt)
    assert decrypt_batch(KEY, array, num_threads=2) == list(range(100))
    assert sizes == [50, 50]
    assert decrypt_batch(KEY, np.vstack([array] * 5), num_threads=2) == 5 * list(range(100))
    assert len(sizes) - 2 == 8 and max(sizes) == 64  # many batches, so that no thread idles for long in the end
    assert len(threads) <= 4 and threading.get_ident() not in threads


def test_full_size_key():
    key = generate_keypair(2048)
    messages = [0, 1, key.public.n - 1, key.public.n // 2, 2**2000]
    for owner in (key, key.public):
        for kind in ("djn", "standard"):
            array = encrypt_batch(key.public, messages, build_obfuscators(owner, kind, num_ciphertexts=5))
            assert array.shape == (5, 512) and decrypt_batch(key, array) == messages


# ---- refusals


@pytest.mark.parametrize("value, kind", [(1.0, "float"), ("1", "str"), (None, "NoneType"), (True, "bool"), (b"1", "bytes")])
def test_plaintexts_of_another_type_are_refused(value, kind):
    with pytest.raises(CryptoError, match=f"plaintexts must be integers, got {kind}; pack pixels or slots first"):
        encrypt_batch(KEY.public, [1, value], SOURCE)


@pytest.mark.parametrize("value", [-1, N, N + 5, -N], ids=["-1", "n", "n+5", "-n"])
def test_plaintexts_out_of_range_are_refused_without_quoting_them(value):
    with pytest.raises(CryptoError, match=r"plaintext 1 is not in \[0, n\) of the 128-bit key") as error:
        encrypt_batch(KEY.public, [1, value], SOURCE)
    assert str(value) not in str(error.value)


def test_signed_operands_have_a_range_too():
    array = encrypt_batch(KEY.public, [1], SOURCE)
    for value in (N, -N):
        with pytest.raises(CryptoError, match=r"plaintext 0 is not in \(-n, n\)"):
            add_plaintext(KEY.public, array, [value])


def test_numpy_integers_and_mpz_are_plaintexts():
    values = [np.uint8(255), np.int64(5), mpz(7), 9]
    assert check_plaintexts(KEY.public, values) == [255, 5, 7, 9]
    assert {type(m) for m in check_plaintexts(KEY.public, values)} == {mpz}


@pytest.mark.parametrize(
    "array, found",
    [
        (np.zeros((2, 31), np.uint8), r"uint8 \(2, 31\)"),
        (np.zeros((2, 32), np.int64), r"int64 \(2, 32\)"),
        (np.zeros(32, np.uint8), r"uint8 \(32,\)"),
        (np.zeros((1, 1, 32), np.uint8), r"uint8 \(1, 1, 32\)"),
        ([1, 2], "list"),
    ],
)
def test_arrays_of_another_shape_are_refused(array, found):
    match = rf"ciphertexts of a 128-bit key must be uint8 \(num_ciphertexts, 32\), got {found}"
    for action in (
        lambda: decrypt_batch(KEY, array),
        lambda: add_plaintext(KEY.public, array, [1]),
        lambda: rerandomise(KEY.public, array),
    ):
        with pytest.raises(CryptoError, match=match):
            action()


@pytest.mark.parametrize(
    "number, rule",
    [
        (0, "is not in \\(0, n\\^2\\)"),
        (N * N, "is not in \\(0, n\\^2\\)"),
        (2**256 - 1, "is not in \\(0, n\\^2\\)"),
        (N, "has a factor in common with n"),
        (KEY.p * 5, "has a factor in common with n"),
        (KEY.q**2, "has a factor in common with n"),
    ],
    ids=["0", "n^2", "all ones", "n", "5 p", "q^2"],
)
def test_numbers_that_no_encryption_gives_are_refused(number, rule):
    good = encrypt_batch(KEY.public, [1, 2], SOURCE)
    bad = np.vstack([good, np.frombuffer(int(number).to_bytes(32, "big"), np.uint8)])
    for action in (
        lambda: decrypt_batch(KEY, bad),
        lambda: add_plaintext(KEY.public, bad, [1, 2, 3]),
        lambda: rerandomise(KEY.public, bad),
        lambda: check_ciphertexts(KEY.public, from_array(KEY.public, bad)),
    ):
        with pytest.raises(CryptoError, match=f"ciphertext [02] {rule}"):
            action()


def test_check_range_accepts_its_edges():
    edges = np.array([list(c.to_bytes(32, "big")) for c in (0, 1, N * N - 1, N * N, N * N + 1, 2**256 - 1)], np.uint8)
    check_range(KEY.public, edges[1:3])
    check_range(KEY.public, edges[:0])
    for row in (0, 3, 4, 5):
        with pytest.raises(CryptoError, match=r"ciphertext 1 is not in \(0, n\^2\)"):
            check_range(KEY.public, edges[[1, row]])


def test_operands_of_different_length_are_refused():
    array = encrypt_batch(KEY.public, [1, 2], SOURCE)
    with pytest.raises(CryptoError, match="both operands need the same number of rows, got 2 and 1"):
        add_plaintext(KEY.public, array, [1])


def test_obfuscators_of_another_key_are_refused():
    other = generate_keypair(128, allow_insecure_key=True).public
    for encrypt in (encrypt_batch, encrypt_batch_deterministic):
        with pytest.raises(
            CryptoError, match=f"the obfuscators are of key {KEY.public.fingerprint[:16]}..., not of {other.fingerprint[:16]}"
        ):
            encrypt(other, [1], SOURCE)


def test_what_cannot_be_inverted_is_refused():
    with pytest.raises(CryptoError, match="cannot be inverted"):
        invert_batch([mpz(3), mpz(KEY.p)], mpz(N))


def test_decryption_lets_other_threads_run():
    """Threads help because the modular powers release the GIL: this thread must get on while another decrypts."""
    key = generate_keypair(2048)
    array = encrypt_batch(key.public, range(64), build_obfuscators(key, num_ciphertexts=64))
    done, ticks = threading.Event(), 0
    worker = threading.Thread(target=lambda: (decrypt_batch(key, array), done.set()))
    worker.start()
    while not done.is_set():
        ticks += 1
        time.sleep(0.001)
    worker.join()
    assert ticks > 15  # of about 150; with the GIL held through the two lists of powers it would be 3 or so


def test_a_source_that_draws_too_few_is_refused():
    """Otherwise numpy would repeat the one ciphertext."""
    with pytest.raises(ValueError, match="shorter"):
        encrypt_batch(KEY.public, [1, 2], Fixed(KEY.public, SOURCE.draw(1)))


def test_threads_must_be_positive():
    with pytest.raises(CryptoError, match="num_threads must be at least 1, got 0"):
        decrypt_batch(KEY, encrypt_batch(KEY.public, [1], SOURCE), num_threads=0)
