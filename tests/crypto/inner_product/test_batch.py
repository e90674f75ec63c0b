"""Heads on batches: a slot an image, exact, and nothing in the slots that no image has."""

import secrets

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.packing import HEADROOM_BITS
from ppdl.crypto.arithmetic.paillier import decrypt_batch, encrypt_batch
from ppdl.crypto.inner_product.batch import BatchHead, BatchPacking, decrypt_logit_batch, encrypt_feature_batch
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import CryptoError
from tests.crypto.inner_product.inputs import inputs

KEYS = {bits: generate_keypair(bits, allow_insecure_key=True) for bits in (64, 128, 256)}
SOURCES = {bits: build_obfuscators(key, table_bytes=2**19) for bits, key in KEYS.items()}


def there_and_back(features, weights, bias, packing: BatchPacking, randbelow=secrets.randbelow) -> np.ndarray:
    key = KEYS[packing.key_bits]
    sent = encrypt_feature_batch(key.public, features, packing, obfuscators=SOURCES[packing.key_bits])
    assert sent.shape == (packing.num_features, key.public.ciphertext_bytes)
    answer = BatchHead(weights, bias, packing).evaluate(key.public, sent, len(features), randbelow)
    return decrypt_logit_batch(key, answer, packing, len(features))


@st.composite
def batches(draw):
    key_bits, num_features = draw(st.sampled_from(sorted(KEYS))), draw(st.integers(1, 12))
    try:
        packing = BatchPacking(key_bits, num_features, draw(st.integers(1, 8)), draw(st.integers(2, 8)))
    except CryptoError:
        assume(False)
    return packing, *draw(inputs(packing, (draw(st.integers(1, packing.capacity)), num_features)))


@given(batches())
@settings(max_examples=80, deadline=None)
def test_decrypted_logits_are_those_of_the_integer_head(case):
    packing, features, weights, bias = case
    expected = features.astype(np.int64) @ weights.T.astype(np.int64) + bias
    assert np.array_equal(there_and_back(features, weights, bias, packing), expected)


@pytest.mark.parametrize("fill", ["zeros", "ones"])
@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("images", [1, 0], ids=["one", "full"])
def test_the_largest_sums_with_the_mask_at_its_ends_carry_nothing(fill, weight, images):
    packing = BatchPacking(256, 9)

    def filled(bound: int) -> int:  # the mask; the randomness of the ciphertext, which has another bound, stays random
        return secrets.randbelow(bound) if bound & (bound - 1) else 0 if fill == "zeros" else bound - 1

    features, weights = np.full((images or packing.capacity, 9), 255, np.uint8), np.full((2, 9), weight, np.int8)
    bias = np.array([packing.largest, -packing.largest])
    found = there_and_back(features, weights, bias, packing, filled)
    assert np.array_equal(found, features.astype(int) @ weights.T.astype(int) + bias)


def test_at_2048_bits_a_batch_has_72_images():
    assert (BatchPacking(2048, 1280).capacity, BatchPacking(3072, 1280).capacity) == (72, 109)


@given(st.integers(1, 5000), st.integers(1, 8), st.integers(2, 8))
def test_slots_are_as_narrow_as_logits_allow(num_features, feature_bits, weight_bits):
    packing = BatchPacking(2048, num_features, feature_bits, weight_bits)
    assert 2 * packing.largest < 1 << (packing.slot_bits - 1) <= 4 * packing.largest


def test_images_above_the_declared_number_get_no_answer():
    """A client that puts more images into a batch than it says learns nothing about them; without the mask it would."""
    packing, key = BatchPacking(256, 6), KEYS[256]
    features = np.arange(6 * packing.capacity, dtype=np.uint8).reshape(packing.capacity, 6)
    weights, bias = np.arange(6, dtype=np.int8)[None], np.array([11])
    sent = encrypt_feature_batch(key.public, features, packing, obfuscators=SOURCES[256])
    head, bits = BatchHead(weights, bias, packing), packing.slot_bits

    def rest(randbelow=secrets.randbelow) -> int:
        return int(decrypt_batch(key, head.evaluate(key.public, sent, 2, randbelow))[0]) >> (2 * bits)

    assert len({rest() >> bits for _ in range(8)}) == 8
    room = 256 - HEADROOM_BITS - 2 * bits
    share = np.array([rest() / (1 << room) for _ in range(300)])
    assert abs(share.mean() - 0.5) < 0.1 and share.max() > 0.95 and share.min() < 0.05 + 1 / 8
    hidden = rest(lambda bound: 0)
    logits = features.astype(int) @ weights.T.astype(int)
    assert hidden == sum(int(logit) << (bits * b) for b, logit in enumerate(logits[2:, 0]))


def test_answers_are_fresh():
    packing, key = BatchPacking(256, 3), KEYS[256]
    sent = encrypt_feature_batch(key.public, np.ones((packing.capacity, 3), np.uint8), packing, obfuscators=SOURCES[256])
    answers = [BatchHead(np.zeros((1, 3), np.int8), np.array([0]), packing).evaluate(key.public, sent, packing.capacity) for _ in range(2)]
    assert not np.array_equal(*answers)


def test_what_does_not_fit_is_refused():
    packing, key = BatchPacking(256, 3), KEYS[256]
    good = encrypt_feature_batch(key.public, np.ones((2, 3), np.uint8), packing, obfuscators=SOURCES[256])
    head = BatchHead(np.ones((1, 3), np.int8), np.array([0]), packing)
    for count in (0, packing.capacity + 1):
        with pytest.raises(CryptoError, match=f"has 1 to {packing.capacity} images, got {count}"):
            head.evaluate(key.public, good, count)
        with pytest.raises(CryptoError, match="images, got"):
            encrypt_feature_batch(key.public, np.ones((count, 3), np.uint8), packing, obfuscators=SOURCES[256])
    bad = good.copy()
    bad[2] = 0
    with pytest.raises(CryptoError, match="ciphertext 2 is not in"):
        head.evaluate(key.public, bad, 2)
    with pytest.raises(CryptoError, match="3 ciphertexts, got 2"):
        head.evaluate(key.public, good[:2], 2)
    with pytest.raises(CryptoError, match="for a 256-bit key"):
        head.evaluate(KEYS[128].public, good, 2)
    with pytest.raises(CryptoError, match="key_bits must be at least"):
        BatchPacking(32, 1000)
    with pytest.raises(CryptoError, match="num_features must be at most"):
        BatchPacking(2048, 10**9)
    answer = encrypt_batch(key.public, [1 << 250], SOURCES[256])
    with pytest.raises(CryptoError, match="exceeds the packing"):
        decrypt_logit_batch(key, answer, packing, 1)
