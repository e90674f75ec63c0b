"""Encrypt, decrypt and compute on many Paillier ciphertexts at once.

Ciphertexts travel as uint8 arrays (num_ciphertexts, key.ciphertext_bytes), each row one number in (0, n^2),
big-endian (numbers.py). Plaintexts are integers in [0, n); packing.py turns pixels and slots into them and back.

These arrays interoperate with python-paillier:
`phe.PaillierPrivateKey.raw_decrypt(int(c))` reads what is written here, and the reverse.

Paillier is malleable: whoever has the public key can change what a ciphertext decrypts to. Nothing here
authenticates. GMP's arithmetic does not take constant time: do not decrypt, or encrypt as the owner, where an
attacker can measure how long it takes.

Source: Paillier 1999, with g = n + 1.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

import gmpy2
import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.derived import Randbelow
from ppdl.crypto.arithmetic.engine import VECTOR, engine
from ppdl.crypto.arithmetic.numbers import check_array, check_ciphertexts, check_plaintexts, check_range, from_array, to_array
from ppdl.crypto.arithmetic.obfuscators import Obfuscators, StandardObfuscators
from ppdl.crypto.keys.keypair import CrtConstants, PrivateKey, PublicKey
from ppdl.errors import CryptoError

if TYPE_CHECKING:
    from ppdl.crypto.arithmetic.vector.decryption import Decryption

BATCH_CIPHERTEXTS = 1024  # bounds the memory of a batch to a few MiB; larger ones are no faster


def encrypt_batch(public_key: PublicKey, plaintexts: Iterable[int], obfuscators: Obfuscators) -> np.ndarray:
    """Encrypt plaintexts in [0, n), each with its own fresh obfuscator.

    Returns: uint8 (num_plaintexts, ciphertext_bytes), big-endian.
    Raises: CryptoError when a plaintext is out of range or the obfuscators belong to another key.
    Cost: with `djn`, 2048 bits and 12-bit windows: 0.05 ms a ciphertext with the vector kernel; with gmpy2 0.4, as the owner 0.3.
    """
    plaintexts = check_plaintexts(public_key, plaintexts)
    _check_same_key(public_key, obfuscators)
    result = np.empty((len(plaintexts), public_key.ciphertext_bytes), np.uint8)
    for start in range(0, len(plaintexts), BATCH_CIPHERTEXTS):
        batch = plaintexts[start : start + BATCH_CIPHERTEXTS]
        result[start : start + len(batch)] = to_array(public_key, obfuscators.encrypt(batch))
    return result


def encrypt_batch_deterministic(public_key: PublicKey, plaintexts: Iterable[int], obfuscators: Obfuscators) -> np.ndarray:
    """Encrypt plaintexts under ONE obfuscator, drawn here and forgotten: equal plaintexts give equal ciphertexts.

    This is not confidential: c_i / c_j = 1 + (m_i - m_j) n (mod n^2) shows every difference to whoever has the public
    key. It rebuilds what Boulila et al. 2022 (arXiv 2203.07728) do.

    Returns: uint8 (num_plaintexts, ciphertext_bytes), big-endian.
    Raises: as encrypt_batch.
    Cost: 6 us a ciphertext at 2048 bits.
    """
    plaintexts = check_plaintexts(public_key, plaintexts)
    _check_same_key(public_key, obfuscators)
    n, n_squared = mpz(public_key.n), mpz(public_key.n_squared)
    (obfuscator,) = obfuscators.draw(1)
    return to_array(public_key, [(1 + m * n) * obfuscator % n_squared for m in plaintexts])


def decrypt_batch(private_key: PrivateKey, ciphertexts: np.ndarray, *, num_threads: int = 1) -> list[mpz]:
    """Decrypt an array of ciphertexts.

    A ciphertext of another key decrypts to a wrong number without an error (as with phe): compare fingerprints and
    the canary first.

    Args:
        ciphertexts: uint8 (num_ciphertexts, ciphertext_bytes), big-endian.
        num_threads: threads, not processes: the modular powers release the GIL, and the private key need not travel.
    Returns: num_ciphertexts plaintexts in [0, n).
    Raises: CryptoError when a row is no ciphertext of this key's size, is not below n^2 or has a factor in common
        with n.
    Source: Paillier 1999, section 7, "Decryption using Chinese-remaindering".
    Cost: with gmpy2 as phe, for GMP's powers are all of it; the vector kernel takes a seventh or less. See docs/benchmarks.md.
    """
    if num_threads < 1:
        raise CryptoError(f"num_threads must be at least 1, got {num_threads}")
    check_array(private_key.public, ciphertexts)
    crt = private_key.crt
    if engine() == VECTOR:
        check_range(private_key.public, ciphertexts)
        return _vector_decryption(crt).decrypt(ciphertexts, num_threads)
    numbers = from_array(private_key.public, ciphertexts)
    check_ciphertexts(private_key.public, numbers)
    size = max(1, min(64, -(-len(numbers) // num_threads)))
    batches = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    if num_threads == 1:
        return list(chain.from_iterable(_decrypt_numbers(crt, batch) for batch in batches))
    with ThreadPoolExecutor(num_threads) as executor:
        return list(chain.from_iterable(executor.map(lambda batch: _decrypt_numbers(crt, batch), batches)))


def add_plaintext(public_key: PublicKey, ciphertexts: np.ndarray, plaintexts: Sequence[int]) -> np.ndarray:
    """Return ciphertexts of the sums mod n with plaintexts in (-n, n), row by row. The obfuscators stay what they were."""
    n, n_squared = mpz(public_key.n), mpz(public_key.n_squared)
    plaintexts = check_plaintexts(public_key, plaintexts, signed=True)
    return to_array(public_key, [c * (1 + m * n) % n_squared for c, m in _paired(public_key, ciphertexts, plaintexts)])


def add_ciphertexts(public_key: PublicKey, *parties: np.ndarray) -> np.ndarray:
    """Return ciphertexts of the sums mod n over arrays of as many ciphertexts, row by row: what everybody with the public key can compute.

    The result is a function of the ciphertexts: the same parties, in any order, give the same bytes.

    Raises: CryptoError when the arrays differ in length, or a row is no ciphertext of this key.
    Cost: a product mod n^2 for each array and row.
    """
    n_squared = mpz(public_key.n_squared)
    total = [mpz(1)] * len(parties[0])
    for rows in parties:
        total = [a * b % n_squared for a, b in _paired(public_key, rows, total)]
    return to_array(public_key, total)


def rerandomise(public_key: PublicKey, ciphertexts: np.ndarray, randbelow: Randbelow = secrets.randbelow) -> np.ndarray:
    """Multiply each row by a fresh `standard` obfuscator: what it holds stays, how it was computed can no longer be seen.

    Always r^n, never djn: with a foreign key h may be hostile. Needed only where the computation itself is not public.
    Cost: as StandardObfuscators.
    """
    n_squared = mpz(public_key.n_squared)
    fresh = StandardObfuscators(public_key, randbelow).draw(len(ciphertexts))
    return to_array(public_key, [c * r % n_squared for c, r in _paired(public_key, ciphertexts, fresh)])


def _vector_decryption(crt: CrtConstants) -> Decryption:
    from ppdl.crypto.arithmetic.vector.decryption import Decryption

    if crt.vector is None:
        crt.vector = Decryption(crt)
    return crt.vector


def _decrypt_numbers(crt: CrtConstants, ciphertexts: list[mpz]) -> list[mpz]:
    p, q, p2, q2, h_p, h_q, p_inverse = crt.p, crt.q, crt.p_squared, crt.q_squared, crt.h_p, crt.h_q, crt.p_inverse
    powers_p = gmpy2.powmod_base_list([c % p2 for c in ciphertexts], p - 1, p2)
    powers_q = gmpy2.powmod_base_list([c % q2 for c in ciphertexts], q - 1, q2)
    # L_p(x) = (x - 1) / p; m_p = L_p(c^(p-1) mod p^2) h_p mod p
    halves_p = [(x - 1) // p * h_p % p for x in powers_p]
    halves_q = [(x - 1) // q * h_q % q for x in powers_q]
    return [a + p * ((b - a) * p_inverse % q) for a, b in zip(halves_p, halves_q, strict=True)]


def _paired(public_key: PublicKey, ciphertexts: np.ndarray, others: Sequence[mpz]) -> Iterable[tuple[mpz, mpz]]:
    numbers = from_array(public_key, ciphertexts)
    check_ciphertexts(public_key, numbers)
    if len(numbers) != len(others):
        raise CryptoError(f"both operands need the same number of rows, got {len(numbers)} and {len(others)}")
    return zip(numbers, others, strict=True)


def _check_same_key(public_key: PublicKey, obfuscators: Obfuscators) -> None:
    if obfuscators.public_key != public_key:
        raise CryptoError(
            f"the obfuscators are of key {obfuscators.public_key.fingerprint[:16]}..., not of {public_key.fingerprint[:16]}..."
        )
