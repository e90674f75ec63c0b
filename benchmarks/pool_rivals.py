"""The same sums added by phe, CKKS and pairwise masks, for benchmarks.pool. Each returns user CPU seconds, a hospital's being the mean.

Shares are int64 (num_sums,), one a hospital; a total that is not theirs is an error.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from benchmarks.crypto_cases import user_seconds
from ppdl.crypto.keys.keypair import PrivateKey

CKKS_DEGREE, CKKS_MODULI = 4096, (60, 49)  # the largest moduli of that degree at 128 bits of security; sums need no product
_HOLDS_BITS = 58  # of a scaled sum: half of the modulus that ciphertexts have, and a bit to spare


def run_phe(key: PrivateKey, shares: Sequence[np.ndarray], total: np.ndarray, num_sampled: int) -> dict[str, float]:
    """Encrypt, add and decrypt sums number by number, as phe's users write them: on evenly spread ones, scaled up to all."""
    chosen = np.linspace(0, len(total) - 1, min(num_sampled, len(total))).astype(int)
    public, private, scale = key.public.phe, key.phe, len(total) / len(chosen)
    encrypted, encrypt = _each(lambda share: [public.encrypt(value) for value in share[chosen].tolist()], shares)
    (added,), add = _each(lambda columns: [sum(column[1:], start=column[0]) for column in columns], [list(zip(*encrypted, strict=True))])
    (opened,), decrypt = _each(lambda numbers: [private.decrypt(number) for number in numbers], [added])
    _must_be(opened, total[chosen])
    return {"hospital": encrypt * scale, "add": add * scale, "open": decrypt * scale, "mb": len(total) * key.public.ciphertext_bytes / 1e6}


def run_ckks(shares: Sequence[np.ndarray], total: np.ndarray) -> dict[str, float]:
    """Encrypt, add and decrypt sums with TenSEAL, as many in a ciphertext as it has slots, under the key holder's public key.

    The scale is the largest at which no total leaves the modulus; rounding then gives the exact integers, which is checked.
    """
    import tenseal as ts

    context, public, slots = *_ckks_context(), CKKS_DEGREE // 2
    scale = 2.0 ** (_HOLDS_BITS - int(total.max()).bit_length())

    def encrypt(share: np.ndarray) -> list[bytes]:
        parts = [share[start : start + slots].astype(float).tolist() for start in range(0, len(share), slots)]
        return [ts.ckks_vector(public, part, scale).serialize() for part in parts]

    def add(sent: Sequence[Sequence[bytes]]) -> list[bytes]:
        added = []
        for column in zip(*sent, strict=True):
            first, *others = (ts.ckks_vector_from(public, part) for part in column)
            for other in others:
                first.add_(other)
            added.append(first.serialize())
        return added

    def decrypt(added: Sequence[bytes]) -> np.ndarray:
        return np.concatenate([ts.ckks_vector_from(context, part).decrypt() for part in added])

    sent, encrypt_s = _each(encrypt, shares)
    (added,), add_s = _each(add, [sent])
    (opened,), decrypt_s = _each(decrypt, [added])
    _must_be(np.rint(opened).astype(np.int64), total)
    error = float(np.abs(opened - total).max())
    return {"hospital": encrypt_s, "add": add_s, "open": decrypt_s, "mb": sum(map(len, sent[0])) / 1e6, "error": error}


@cache
def _ckks_context() -> tuple[Any, Any]:
    import tenseal as ts

    context = ts.context(ts.SCHEME_TYPE.CKKS, poly_modulus_degree=CKKS_DEGREE, coeff_mod_bit_sizes=list(CKKS_MODULI), n_threads=1)
    public = context.copy()
    public.make_context_public()
    return context, public


def run_masks(shares: Sequence[np.ndarray], total: np.ndarray) -> dict[str, float]:
    """Hide each share under masks that cancel in the sum mod 2^64; who adds has the total, and nothing is left to decrypt.

    Each pair of hospitals agrees on a secret (X25519, HKDF) and stretches it (AES-128 in counter mode). Left out is what a hospital
    that drops out needs: the shares of its secret that the others hold, and the second round in which they are collected.

    Source: K. Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", ACM CCS 2017, sections 4.1 and 6.
    """
    secrets = [X25519PrivateKey.generate() for _ in shares]
    published = [secret.public_key() for secret in secrets]

    def hide(number: int) -> np.ndarray:
        masked = shares[number].astype(np.uint64)
        for other, key in enumerate(published):
            if other != number:
                mask = _mask(secrets[number], key, len(masked))
                masked = masked + mask if number < other else masked - mask
        return masked

    sent, hidden = _each(hide, range(len(shares)))
    (added,), add = _each(lambda parts: np.sum(parts, axis=0, dtype=np.uint64), [sent])
    _must_be(added.astype(np.int64), total)
    return {"hospital": hidden, "add": add, "open": 0.0, "mb": (sent[0].nbytes + 32) / 1e6}


def _mask(secret: X25519PrivateKey, other: X25519PublicKey, num_sums: int) -> np.ndarray:
    """Return the mask of a pair: uint64 (num_sums,)."""
    seed = HKDF(SHA256(), 16, None, b"benchmarks.pool mask").derive(secret.exchange(other))
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * num_sums)), np.uint64)


def _each(run: Callable[[Any], Any], arguments: Sequence[Any]) -> tuple[list[Any], float]:
    """Return what a function gives for each argument, and its mean user CPU in seconds."""
    results, times = [], []
    for argument in arguments:
        start = user_seconds()
        results.append(run(argument))
        times.append(max(user_seconds() - start, 1e-6))
    return results, statistics.mean(times)


def _must_be(opened: Any, expected: np.ndarray) -> None:
    if not np.array_equal(np.asarray(opened, dtype=np.int64), expected):
        raise AssertionError("the opened total is not that in the clear")
