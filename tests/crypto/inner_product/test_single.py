"""Inner products inside ciphertexts: exact for all features and weights, and nothing but the logit to be seen."""

import hashlib
import json
import math
import random
from fractions import Fraction
from pathlib import Path

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import ks_1samp, ks_2samp, uniform

from ppdl.crypto.arithmetic.engine import GMPY2, VARIABLE
from ppdl.crypto.arithmetic.multiexp import StrausPlan
from ppdl.crypto.arithmetic.numbers import from_array, to_array
from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.packing import HEADROOM_BITS
from ppdl.crypto.arithmetic.paillier import decrypt_batch, encrypt_batch
from ppdl.crypto.arithmetic.vector.compiled import missing_features
from ppdl.crypto.inner_product import single as inner
from ppdl.crypto.inner_product.single import InnerHead, InnerPacking, decrypt_logits, encrypt_features
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, generate_keypair
from ppdl.errors import CryptoError
from tests.crypto.inner_product.inputs import inputs

KEYS = {bits: generate_keypair(bits, allow_insecure_key=True) for bits in (128, 256, 512)}
SOURCES = {bits: build_obfuscators(key, table_bytes=2**19) for bits, key in KEYS.items()}
VECTOR = json.loads((Path(__file__).parents[2] / "vectors/inner_2048.json").read_text())


def reference(features: np.ndarray, weights: np.ndarray, bias) -> list[int]:
    return [sum(int(w) * int(f) for w, f in zip(row, features, strict=True)) + int(b) for row, b in zip(weights, bias, strict=True)]


def there_and_back(features, weights, bias, packing: InnerPacking) -> list[int]:
    key = KEYS[packing.key_bits]
    sent = encrypt_features(key.public, features, packing, obfuscators=SOURCES[packing.key_bits])
    assert sent.shape == (packing.num_ciphertexts, key.public.ciphertext_bytes)
    return decrypt_logits(key, InnerHead(weights, bias, packing).evaluate(key.public, sent), packing).tolist()


@st.composite
def heads(draw):
    key_bits, num_features = draw(st.sampled_from(sorted(KEYS))), draw(st.integers(1, 24))
    bits = draw(st.tuples(st.integers(1, 8), st.integers(2, 8), st.integers(40, 50)))
    try:
        packing = InnerPacking(key_bits, num_features, *bits)
    except CryptoError:
        assume(False)
    return packing, *draw(inputs(packing, num_features))


@given(heads())
@settings(max_examples=80, deadline=None)
def test_decrypted_logits_are_those_of_the_integer_head(case):
    packing, features, weights, bias = case
    assert there_and_back(features, weights, bias, packing) == reference(features, weights, bias)


@pytest.mark.parametrize("key_bits", KEYS)
@pytest.mark.parametrize("feature", [0, 255])
@pytest.mark.parametrize("weight", [-128, -127, 127])
@pytest.mark.parametrize("end", [-1, 1])
@pytest.mark.parametrize("edge", ["lowest", "highest"])
def test_the_largest_sums_with_masks_at_their_ends_carry_nothing(monkeypatch, key_bits, feature, weight, end, edge):
    monkeypatch.setattr(inner, "draw", lambda numbers, _: numbers[0] if edge == "lowest" else numbers[-1])
    packing = InnerPacking(key_bits, 13)
    features, weights = np.full(13, feature, np.uint8), np.full((1, 13), weight, np.int8)
    bias = np.array([end * packing.largest])
    assert there_and_back(features, weights, bias, packing) == reference(features, weights, bias)


def test_a_mask_one_beyond_its_range_would_carry_into_the_logit(monkeypatch):
    """The ranges are not wider than they may be: this is what they keep out."""
    packing = InnerPacking(512, 13, mask_bits=40)
    features, weights, bias = np.full(13, 255, np.uint8), np.full((1, 13), -128, np.int8), np.array([0])
    monkeypatch.setattr(inner, "draw", lambda numbers, _: numbers.start // 4 if numbers.start else 0)
    with pytest.raises(AssertionError):
        assert there_and_back(features, weights, bias, packing) == reference(features, weights, bias)


def test_at_2048_bits_1280_features_fit_in_86_ciphertexts():
    packing = InnerPacking(2048, 1280)
    assert (packing.slot_bits, packing.logit_bits, packing.features_per_ciphertext, packing.num_ciphertexts) == (67, 28, 15, 86)
    assert packing.num_ciphertexts * 512 < 50_000
    assert packing.middle + packing.slot_bits * packing.features_per_ciphertext <= 2048 - HEADROOM_BITS
    assert packing.hostile_bits == 37
    assert InnerPacking(3072, 1280).num_ciphertexts * 768 < 50_000


@given(st.integers(1, 5000), st.integers(1, 8), st.integers(2, 8), st.integers(40, 128), st.sampled_from([256, 1024, 2048, 3072]))
def test_the_distance_is_bounded_and_the_packing_as_narrow_as_that_allows(num_features, feature_bits, weight_bits, mask_bits, key_bits):
    try:
        packing = InnerPacking(key_bits, num_features, feature_bits, weight_bits, mask_bits)
    except CryptoError:
        assume(False)
    below, above = packing.mask_ranges()
    t, base = packing.features_per_ciphertext, 1 << packing.slot_bits
    partial = sum(packing.largest * base**k for k in range(t - 1))
    assert (below.start, above.start) == (partial, partial * base >> packing.logit_bits)
    for numbers, size in ((below, partial), (above, above.start)):
        assert Fraction(2 * size, numbers.stop - numbers.start) < Fraction(1, 1 << mask_bits)
    assert base // 2 <= 2 * packing.largest * (2**mask_bits + 1) < base
    assert packing.largest < 1 << (packing.logit_bits - 2) <= 2 * packing.largest
    # what is not masked of a number mod n: the bound on what a hostile plaintext gets
    entropy = sum(math.log2(numbers.stop - numbers.start) for numbers in (below, above))
    assert key_bits - entropy <= packing.hostile_bits
    highest = (above.stop - 1 + above.start << packing.logit_bits) + (1 << packing.logit_bits) - 1
    assert (highest << packing.middle) + (1 << packing.middle) - 1 < 1 << (key_bits - HEADROOM_BITS)


def seen_beside_the_logit(weights, packing: InnerPacking, num_answers: int) -> np.ndarray:
    """Return what a client sees below and above the logit, as shares of the range: (2, num_answers)."""
    key, head = KEYS[packing.key_bits], InnerHead(weights, np.zeros(len(weights), np.int64), packing)
    sent = encrypt_features(key.public, np.full(packing.num_features, 200, np.uint8), packing, obfuscators=SOURCES[packing.key_bits])
    plaintexts = [int(decrypt_batch(key, head.evaluate(key.public, sent))[0]) for _ in range(num_answers)]
    room = packing.key_bits - HEADROOM_BITS - packing.middle - packing.logit_bits
    low = [float(Fraction(m % (1 << packing.middle), 1 << packing.middle)) for m in plaintexts]
    high = [float(Fraction(m >> (packing.middle + packing.logit_bits), 1 << room)) for m in plaintexts]
    return np.array([low, high])


def distributions_differ(packing: InnerPacking) -> bool:
    """Compare what a client sees of two heads that give this image the same logit: 0."""
    one = np.tile(np.array([127, -127], np.int8), packing.num_features // 2)[None]
    first, second = (seen_beside_the_logit(weights, packing, 400) for weights in (one, np.zeros_like(one)))
    same = [ks_2samp(a, b).pvalue > 1e-6 for a, b in zip(first, second, strict=True)]
    return not all([*same, *(ks_1samp(row, uniform.cdf).pvalue > 1e-6 for row in (*first, *second))])


def test_what_a_client_sees_beside_the_logit_does_not_depend_on_the_weights(monkeypatch):
    packing = InnerPacking(256, 8)
    assert packing.features_per_ciphertext > 1
    assert not distributions_differ(packing)
    monkeypatch.setattr(inner, "draw", lambda numbers, _: numbers.start)  # not masked
    assert distributions_differ(packing)


def test_one_mask_for_all_slots_hides_each_partial_sum(monkeypatch):
    """Without the mask the partial sums are there to be read; with it, two answers to one request share none."""
    packing, key = InnerPacking(512, 12), KEYS[512]
    weights, features = np.arange(1, 13, dtype=np.int8)[None], np.ones(12, np.uint8)
    sent = encrypt_features(key.public, features, packing, obfuscators=SOURCES[512])
    head = InnerHead(weights, np.array([0]), packing)

    def slots() -> list[int]:
        m, bits = int(decrypt_batch(key, head.evaluate(key.public, sent))[0]), packing.slot_bits
        return [(m >> (bits * k)) % (1 << bits) for k in range(packing.features_per_ciphertext - 1)]

    first, second = slots(), slots()
    assert not set(first) & set(second)
    monkeypatch.setattr(inner, "draw", lambda numbers, _: 0)
    t = packing.features_per_ciphertext
    blocks = np.pad(weights[0].astype(int), (0, -12 % t)).reshape(-1, t)
    assert slots() == [sum(int(w) for block in blocks for w in block[t - 1 - k :]) for k in range(t - 1)]


def test_answers_are_fresh_and_no_function_of_the_request():
    packing, key = InnerPacking(256, 1), KEYS[256]  # one feature: there is nothing to mask
    sent = encrypt_features(key.public, np.array([9], np.uint8), packing, obfuscators=SOURCES[256])
    answers = [InnerHead(np.array([[0]], np.int8), np.array([5]), packing).evaluate(key.public, sent) for _ in range(2)]
    assert not np.array_equal(*answers)
    (c,) = from_array(key.public, answers[0])
    bare = (1 + (5 + (1 << (packing.logit_bits - 1))) * key.public.n) % key.public.n_squared
    assert c != bare  # not the power of the request that the client could compute for every weight
    assert [decrypt_logits(key, answer, packing).tolist() for answer in answers] == [[5], [5]]


@pytest.mark.skipif(bool(missing_features()), reason="this processor has no AVX-512 IFMA")
@pytest.mark.parametrize("num_classes", [1, 3, 4, 9])
def test_both_engines_give_the_same_answer(monkeypatch, num_classes):
    key, rng = KEYS[512], np.random.default_rng(num_classes)
    packing = InnerPacking(512, 20)
    head = InnerHead(rng.integers(-128, 128, (num_classes, 20)), rng.integers(-99, 99, num_classes), packing)
    sent = encrypt_features(key.public, rng.integers(0, 256, 20, np.uint8), packing, obfuscators=build_obfuscators(key))
    answers = []
    for engine in ("vector", GMPY2):
        monkeypatch.setenv(VARIABLE, engine)
        answers.append(head.evaluate(key.public, sent, random.Random(num_classes).randrange))
    np.testing.assert_array_equal(*answers)


def test_the_golden_vector_of_2048_bits():
    p, q = int(VECTOR["p"], 16), int(VECTOR["q"], 16)
    key = PrivateKey(PublicKey(p * q), p, q)
    packing, numbers = InnerPacking(2048, 1280), np.arange(1280)
    features = ((numbers * numbers * 31 + 7) % 256).astype(np.uint8)
    weights = np.stack([(numbers * 97 + numbers // 256 * 13 + c * 61) % 256 - 128 for c in range(3)]).astype(np.int8)
    bias = np.array(VECTOR["bias"])
    n_squared = key.public.n_squared
    obfuscators = [int(gmpy2.powmod(15 * j + 2, key.public.n, n_squared)) for j in range(packing.num_ciphertexts)]
    pairs = zip(packing.pack(features), obfuscators, strict=True)
    sent = to_array(key.public, [mpz((1 + m * key.public.n) * r % n_squared) for m, r in pairs])
    assert hashlib.sha256(sent.tobytes()).hexdigest() == VECTOR["ciphertexts_sha256"]
    products = StrausPlan(packing.exponents(weights)).products(from_array(key.public, sent), mpz(n_squared))
    assert hashlib.sha256(to_array(key.public, products).tobytes()).hexdigest() == VECTOR["products_sha256"]
    answer = InnerHead(weights, bias, packing).evaluate(key.public, sent)
    assert decrypt_logits(key, answer, packing).tolist() == VECTOR["logits"] == reference(features, weights, bias)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_features": 0}, "num_features must be at least 1"),
        ({"feature_bits": 9}, "feature_bits must be 1 to 8"),
        ({"weight_bits": 1}, "weight_bits must be 2 to 8"),
        ({"mask_bits": 39}, "mask_bits must be 40 to 128"),
        ({"key_bits": 64}, r"key_bits must be at least \d+ for one such feature, got 64"),
    ],
)
def test_a_packing_names_the_rule_that_it_breaks(arguments, message):
    with pytest.raises(CryptoError, match=message):
        InnerPacking(**{"key_bits": 256, "num_features": 8} | arguments)


def test_weights_bias_and_features_that_do_not_fit_are_refused_and_not_quoted():
    packing, public = InnerPacking(256, 4, feature_bits=4, weight_bits=4), KEYS[256].public
    weights, bias = np.full((2, 4), 7, np.int8), np.array([1, 2])
    for wrong in (weights[:, :3], weights.astype(float), weights[0], weights[:0]):
        with pytest.raises(CryptoError, match="weights must be integers"):
            InnerHead(wrong, bias, packing)
    with pytest.raises(CryptoError, match=r"weights must lie in \[-8, 8\)") as error:
        InnerHead(weights + 101, bias, packing)
    assert "108" not in str(error.value)
    with pytest.raises(CryptoError, match="bias must be at most"):
        InnerHead(weights, np.array([0, packing.largest + 1]), packing)
    with pytest.raises(CryptoError, match="bias must be integers"):
        InnerHead(weights, bias[:1], packing)
    for features, message in ((np.full(4, 16, np.uint8), "below 2\\^4"), (np.ones(4), "uint8"), (np.ones(5, np.uint8), "uint8")):
        with pytest.raises(CryptoError, match=message):
            encrypt_features(public, features, packing, obfuscators=SOURCES[256])


def test_hostile_ciphertexts_are_refused():
    packing, key = InnerPacking(256, 8), KEYS[256]
    head = InnerHead(np.ones((2, 8), np.int8), np.array([0, 0]), packing)
    good = encrypt_features(key.public, np.ones(8, np.uint8), packing, obfuscators=SOURCES[256])
    values = {0: "not in", key.public.n_squared: "not in", key.p: "factor in common", key.public.n: "factor in common"}
    for value, message in values.items():
        bad = good.copy()
        bad[1] = np.frombuffer(value.to_bytes(key.public.ciphertext_bytes, "big"), np.uint8)
        with pytest.raises(CryptoError, match=f"ciphertext 1 .*{message}"):
            head.evaluate(key.public, bad)
    for bad, message in ((good[:-1], "ciphertexts, got"), (good[:, :-1], "must be uint8"), (good.astype(np.int64), "must be uint8")):
        with pytest.raises(CryptoError, match=message):
            head.evaluate(key.public, bad)
    with pytest.raises(CryptoError, match="for a 256-bit key, got one of 512"):
        head.evaluate(KEYS[512].public, good)


def test_an_answer_of_another_key_is_noticed():
    packing, other = InnerPacking(256, 8), generate_keypair(256, allow_insecure_key=True)
    answers = encrypt_batch(KEYS[256].public, [(1 << 248) - 1] * 24, SOURCES[256])
    numbers = [c % other.public.n_squared for c in from_array(KEYS[256].public, answers)]
    with pytest.raises(CryptoError, match="exceeds the packing"):  # all 24 fit with a probability of 2^-168 or so
        decrypt_logits(other, to_array(other.public, numbers), packing)
