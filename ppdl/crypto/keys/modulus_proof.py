"""Prove, and check, that the n of a public key has no factor in common with phi(n), without showing its primes.

Whoever computes on ciphertexts of a stranger's key needs it. Only then is Z_{n^2}^* the product of the plaintexts' group and that of the
obfuscators r^n, so that a re-randomised ciphertext shows what it decrypts to and nothing else. With a prime p | gcd(n, phi(n)) a stranger
may send ciphertexts with a part of order p that neither r^n nor an added plaintext covers, and read from the answer, mod p, a sum that no
mask hides.

Proof: n-th roots mod n of NUM_ROOTS numbers that a hash derives from n. Where gcd(n, phi(n)) = 1 all numbers have one, and the owner can
compute it. Otherwise, n having no prime factor below SMALLEST_PRIME, at most one in SMALLEST_PRIME numbers has one: a false proof needs
more than 2^138 hashes on average.

Source: S. Goldberg, L. Reyzin, O. Sagga, F. Baldimtsi, "Efficient Noninteractive Certification of RSA Moduli and Beyond", ASIACRYPT 2019,
    section 3.2, with their alpha = 6370 and m = 11.
"""

import hashlib

import gmpy2
import numpy as np
from gmpy2 import mpz

from ppdl.crypto.keys.keypair import PrivateKey, PublicKey
from ppdl.errors import CryptoError

SMALLEST_PRIME = 6370
NUM_ROOTS = 11
_SMALL_PRIMES = gmpy2.primorial(SMALLEST_PRIME - 1)  # the product of all below SMALLEST_PRIME
_DOMAIN = b"ppdl paillier modulus proof v1"
_SPARE_BYTES = 16  # hashed beyond the length of n, so that numbers mod n are uniform within 2^-128


def prove_modulus(private_key: PrivateKey) -> np.ndarray:
    """Return the proof for a private key's n: uint8 (NUM_ROOTS, key_bytes), big-endian. The same each time, and nothing to keep secret.

    Cost: 11 * 2 modular powers with half the length: 30 ms at 2048 bits.
    """
    n, crt = private_key.public.n, private_key.crt
    # r^(1/n) mod p = r^(n^-1 mod (p - 1)), for p and q alike
    exponents = [gmpy2.invert(n, prime - 1) for prime in (crt.p, crt.q)]
    roots = []
    for number in _challenges(private_key.public):
        root_p, root_q = (gmpy2.powmod(number, e, prime) for e, prime in zip(exponents, (crt.p, crt.q), strict=True))
        roots.append(int(root_p + crt.p * ((root_q - root_p) * crt.p_inverse % crt.q)))
    size = _num_bytes(private_key.public)
    return np.frombuffer(b"".join(root.to_bytes(size, "big") for root in roots), np.uint8).reshape(NUM_ROOTS, size)


def check_modulus_proof(public_key: PublicKey, proof: np.ndarray) -> None:
    """Refuse a key whose owner has not proved that gcd(n, phi(n)) = 1.

    Args:
        proof: uint8 (NUM_ROOTS, key_bytes) from prove_modulus.
    Raises: CryptoError with what is wrong.
    Cost: 11 modular powers: 30 ms at 2048 bits. Once a key.
    """
    n, size = mpz(public_key.n), _num_bytes(public_key)
    if not isinstance(proof, np.ndarray) or proof.dtype != np.uint8 or proof.shape != (NUM_ROOTS, size):
        found = f"{proof.dtype} {proof.shape}" if isinstance(proof, np.ndarray) else type(proof).__name__
        raise CryptoError(f"a proof for a {public_key.key_bits}-bit n must be uint8 ({NUM_ROOTS}, {size}), got {found}")
    if gmpy2.gcd(n, _SMALL_PRIMES) != 1:
        raise CryptoError(f"n has a prime factor below {SMALLEST_PRIME}: it is no Paillier modulus")
    for i, (row, number) in enumerate(zip(proof, _challenges(public_key), strict=True)):
        root = mpz.from_bytes(row.tobytes(), "big")
        if not 0 < root < n or gmpy2.gcd(number, n) != 1 or gmpy2.powmod(root, n, n) != number:
            raise CryptoError(f"root {i} of the proof does not fit n: it is not proved that n has no factor in common with phi(n)")


def _challenges(public_key: PublicKey) -> list[mpz]:
    """Derive the numbers whose roots are asked for from n."""
    size = _num_bytes(public_key)
    n = public_key.n.to_bytes(size, "big")
    length = size + _SPARE_BYTES
    stream = hashlib.shake_256(_DOMAIN + len(n).to_bytes(4, "big") + n).digest(NUM_ROOTS * length)
    return [mpz.from_bytes(stream[i * length : (i + 1) * length], "big") % public_key.n for i in range(NUM_ROOTS)]


def _num_bytes(public_key: PublicKey) -> int:
    return (public_key.key_bits + 7) // 8
