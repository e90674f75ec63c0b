"""A key that shares a factor with phi(n) undoes the masks of private inference, and cannot be proved; all others can."""

import hashlib

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz

from ppdl.crypto.arithmetic.numbers import from_array, to_array
from ppdl.crypto.inner_product.single import InnerHead, InnerPacking
from ppdl.crypto.keys import modulus_proof
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, generate_keypair
from ppdl.crypto.keys.modulus_proof import NUM_ROOTS, SMALLEST_PRIME, check_modulus_proof, prove_modulus
from ppdl.errors import CryptoError

KEYS = [generate_keypair(bits, allow_insecure_key=True) for bits in (64, 256, 512)]


def degenerate() -> tuple[PublicKey, int, int]:
    """Return a key with p | q - 1, and its p and q."""
    p = gmpy2.next_prime(mpz(1) << 100)
    q = next(2 * k * p + 1 for k in range(1 << 60, 1 << 61) if gmpy2.is_prime(2 * k * p + 1))
    return PublicKey(int(p * q)), int(p), int(q)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.public.key_bits)
def test_every_owner_can_prove_their_own_key(key):
    proof = prove_modulus(key)
    check_modulus_proof(key.public, proof)
    check_modulus_proof(PublicKey(key.public.n), proof)  # h has no part in it
    assert np.array_equal(proof, prove_modulus(PrivateKey(PublicKey(key.public.n), key.p, key.q)))


def test_a_proof_is_what_its_description_says():
    """As another program would check it; 6370^11 is 2^138.97."""
    assert (NUM_ROOTS, SMALLEST_PRIME) == (11, 6370)
    n = KEYS[1].public.n
    text = b"ppdl paillier modulus proof v1" + (32).to_bytes(4, "big") + n.to_bytes(32, "big")
    stream = hashlib.shake_256(text).digest(11 * 48)
    for i, root in enumerate(prove_modulus(KEYS[1])):
        number = int.from_bytes(stream[48 * i : 48 * (i + 1)], "big")
        assert pow(int.from_bytes(root.tobytes(), "big"), n, n) == number % n


def test_a_proof_is_for_one_key_and_every_root_counts():
    proof = prove_modulus(KEYS[1])
    with pytest.raises(CryptoError, match="root 0 of the proof does not fit n"):
        check_modulus_proof(generate_keypair(256, allow_insecure_key=True).public, proof)
    for i in range(NUM_ROOTS):
        other = proof.copy()
        other[i, -1] ^= 1
        with pytest.raises(CryptoError, match=f"root {i} of the proof"):
            check_modulus_proof(KEYS[1].public, other)


@pytest.mark.parametrize("wrong", [None, np.zeros((NUM_ROOTS, 31), np.uint8), np.zeros((NUM_ROOTS - 1, 32), np.uint8), np.zeros((11, 32))])
def test_what_is_no_proof_is_refused(wrong):
    with pytest.raises(CryptoError, match=r"a proof for a 256-bit n must be uint8 \(11, 32\)"):
        check_modulus_proof(KEYS[1].public, wrong)
    with pytest.raises(CryptoError, match="root 0"):
        check_modulus_proof(KEYS[1].public, np.zeros((NUM_ROOTS, 32), np.uint8))


def test_small_factors_are_refused():
    n = int(gmpy2.next_prime(mpz(1) << 200)) * int(gmpy2.prev_prime(SMALLEST_PRIME))
    with pytest.raises(CryptoError, match=f"prime factor below {SMALLEST_PRIME}"):
        check_modulus_proof(PublicKey(n), np.ones((NUM_ROOTS, (n.bit_length() + 7) // 8), np.uint8))


def test_a_degenerate_key_has_no_proof_even_for_who_knows_its_primes():
    public, p, q = degenerate()
    assert gmpy2.gcd(public.n, (p - 1) * (q - 1)) == p
    # an n-th power is a p-th power mod q, as one number in p is: none of those that are asked for
    assert not any(gmpy2.powmod(number, (q - 1) // p, q) == 1 for number in modulus_proof._challenges(public))
    with pytest.raises(CryptoError, match="root 0"):
        check_modulus_proof(public, np.ones((NUM_ROOTS, (public.key_bits + 7) // 8), np.uint8))


def test_with_a_degenerate_key_an_answer_shows_weights_through_the_mask():
    """What the proof keeps out: ciphertexts of order p, which neither the mask nor the obfuscator reaches."""
    public, p, q = degenerate()
    n_squared = mpz(public.n_squared)
    packing = InnerPacking(public.key_bits, 2)
    assert packing.features_per_ciphertext == 2
    weights = np.array([[93, -41]], np.int8)
    # an element of order p in Z_q^*, 1 mod p^2: no power of 1 + n, and gone in n-th powers
    base = next(x for x in (gmpy2.powmod(g, (q - 1) // p, q) for g in range(2, 100)) if x != 1)
    hostile = gmpy2.powmod(base, q, mpz(q) ** 2)  # the same element in Z_{q^2}^*
    sent = (1 + mpz(p) ** 2 * ((hostile - 1) * gmpy2.invert(mpz(p) ** 2, mpz(q) ** 2) % mpz(q) ** 2)) % n_squared
    head = InnerHead(weights, np.array([0]), packing)
    for _ in range(3):  # whatever masks are drawn
        (answer,) = from_array(public, head.evaluate(public, to_array(public, [sent])))
        seen = gmpy2.powmod(answer % q, (q - 1) // p, q)  # kills n-th powers mod q; 1 + n is 1 mod q
        (exponent,) = packing.exponents(weights)[0]
        assert seen == gmpy2.powmod(base, exponent * ((q - 1) // p), q) != 1
