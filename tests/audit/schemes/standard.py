"""Standard ciphers, used rightly and wrongly: block ciphers in their modes, and Paillier. Conventions as in `pads`."""

from __future__ import annotations

import gmpy2
import numpy as np
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

P, Q = 13935500888991235153, 15837184877706723523  # primes of 64 bits; anybody factors their product, and no attack here tries
N = P * Q
MODES = {"CBC": modes.CBC, "CTR": modes.CTR, "GCM": modes.GCM}


def blocks_encrypted(
    images: np.ndarray, rng: np.random.Generator, *, mode: str, fresh: bool = True, cipher: str = "AES", decrypt: bool = False
) -> np.ndarray:
    """Encrypt the rows of an image, one after another, under AES-128 or triple DES; `fresh`: with an IV or nonce of its own.

    Source: FIPS 197 and SP 800-67 for the ciphers; SP 800-38A for ECB, CBC and CTR, appendix B of which forbids that a counter occurs
    twice, and appendix C asks for unpredictable IVs; SP 800-38D for GCM, whose section 8 does the same (the tag is no part of the picture).
    """
    algorithm = {"AES": AES, "3DES": TripleDES}[cipher](rng.bytes(16 if cipher == "AES" else 24))
    vectors = [rng.bytes(12 if mode == "GCM" else algorithm.block_size // 8) for _ in range(len(images) if fresh else 1)]
    result = np.empty_like(images)
    for i, image in enumerate(images):
        chosen = modes.ECB() if mode == "ECB" else MODES[mode](vectors[i % len(vectors)])
        context = Cipher(algorithm, chosen)
        context = context.decryptor() if decrypt else context.encryptor()
        result[i] = np.frombuffer(context.update(image.tobytes()), np.uint8).reshape(image.shape)
    return result


def paillier_integers(images: np.ndarray, rng: np.random.Generator, *, obfuscators: str) -> np.ndarray:
    """Encrypt each pixel by c = (1 + n)^m r^n mod n^2: an array of Python integers.

    Args:
        obfuscators: "one" (r = 1), "shared" (one r for all pixels) or "fresh" (one for each).

    Source: P. Paillier, Public-key cryptosystems based on composite degree residuosity classes, EUROCRYPT 1999, scheme 1.
    """
    count = {"one": 0, "shared": 1, "fresh": images.size}[obfuscators]
    masks = [int(gmpy2.powmod(int.from_bytes(rng.bytes(16), "big") % N, N, N * N)) for _ in range(count)] or [1]
    return np.array([(1 + int(m) * N) * masks[i % len(masks)] % (N * N) for i, m in enumerate(images.ravel())], object).reshape(
        images.shape
    )


def paillier_decrypted(ciphertexts: np.ndarray) -> np.ndarray:
    """Decrypt, by the private key."""
    order = (P - 1) * (Q - 1)
    inverse = pow(order, -1, N)
    return (
        np.array([(int(gmpy2.powmod(c, order, N * N)) - 1) // N * inverse % N for c in ciphertexts.ravel()])
        .astype(np.uint8)
        .reshape(ciphertexts.shape)
    )


def paillier(images: np.ndarray, rng: np.random.Generator, *, obfuscators: str) -> np.ndarray:
    """Encrypt by `paillier_integers`, and keep the lowest 64 bits of each ciphertext: what an array of uint64 holds."""
    return (paillier_integers(images, rng, obfuscators=obfuscators) & (1 << 64) - 1).astype(np.uint64)


def paillier_without_randomness(images: np.ndarray) -> np.ndarray:
    """Encrypt each pixel by c = (1 + n)^m r^n mod n^2 with r = 1, and scale ciphertexts to 0..255 by their least and largest.

    Since (1 + n)^m = 1 + m n, scaling returns the image, stretched to the full range.

    Source: P. Paillier, EUROCRYPT 1999, scheme 1, as notebooks use it that need pictures of ciphertexts for a network.
    """
    n = (2**127 - 1) * (2**521 - 1)
    ciphertexts = [pow(1 + n, m, n * n) * pow(1, n, n * n) % (n * n) for m in range(256)]
    used = np.unique(images)
    low, high = ciphertexts[used[0]], ciphertexts[used[-1]]
    table = np.array([min(max((c - low) * 255 // (high - low), 0), 255) for c in ciphertexts], np.uint8)
    return table[images]
