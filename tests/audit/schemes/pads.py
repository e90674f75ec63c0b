"""Pads and keystreams from chaotic maps: what is added to an image, or XORed with it, pixel by pixel.

Each function is (images, rng) -> what is published; the key is what `rng` draws, so that the same seed decrypts (`decrypt`).
`fresh`: a keystream for each image, in the place of one for all.
"""

from __future__ import annotations

import numpy as np


def xor_pad(images: np.ndarray, rng: np.random.Generator, *, fresh: bool, decrypt: bool = False) -> np.ndarray:
    """XOR with random bytes. With a fresh pad for each image: G. Vernam, J. AIEE 45, 1926; perfect: C. Shannon, BSTJ 28, 1949.

    With one pad for all it is a two-time pad: c_i ^ c_j = p_i ^ p_j (R. Benson, The Venona story, NSA; J. Mason et al., CCS 2006).
    """
    return images ^ rng.integers(0, 256, images.shape if fresh else images.shape[1:], dtype=np.uint8)


def added_pad(images: np.ndarray, rng: np.random.Generator, *, fresh: bool, modulus: int = 256, decrypt: bool = False) -> np.ndarray:
    """Add random residues modulo `modulus` >= 256 (Shannon 1949, section 10: the Vernam system); uint16 where it is more than 256."""
    pad = rng.integers(0, modulus, images.shape if fresh else images.shape[1:])
    return ((images.astype(int) + (-pad if decrypt else pad)) % modulus).astype(np.uint8 if modulus == 256 or decrypt else np.uint16)


def short_key(images: np.ndarray, rng: np.random.Generator, *, decrypt: bool = False) -> np.ndarray:
    """XOR with a key of 16 bytes that repeats: Vigenere's cipher (F. Kasiski, Die Geheimschriften und die Dechiffrir-Kunst, 1863)."""
    flat = images.reshape(len(images), -1)
    return (flat ^ np.resize(rng.integers(0, 256, 16, dtype=np.uint8), flat.shape[1])).reshape(images.shape)


def logistic_xor(images: np.ndarray, rng: np.random.Generator, *, fresh: bool, leading: bool = False, decrypt: bool = False) -> np.ndarray:
    """XOR with bytes of the logistic map x -> mu x (1 - x): floor(x 10^14) mod 256, or the `leading` ones, floor(256 x).

    Source: N. Pareek, V. Patidar and K. Sud, Image encryption using chaotic logistic map, Image and Vision Computing 24(9), 2006. Broken:
    C. Li et al., On the security defects of an image encryption scheme, Image and Vision Computing 27(9), 2009. x has the arcsine law, not
    the uniform one, so that leading bytes 0 and 255 come ten times as often as they should: G. Alvarez and S. Li, Some basic cryptographic
    requirements for chaos-based cryptosystems, Int. J. Bifurcation and Chaos 16(8), 2006.
    """
    x, mu = rng.uniform(0.1, 0.9, len(images) if fresh else 1), rng.uniform(3.99, 4.0)
    states = _orbit(lambda x: mu * x * (1 - x), x, images[0].size)
    stream = (256 * states if leading else states * 1e14 % 256).astype(np.uint8)
    return images ^ stream.reshape(-1, *images.shape[1:])


def henon_shuffle_xor(images: np.ndarray, rng: np.random.Generator, *, decrypt: bool = False) -> np.ndarray:
    """Move pixels by the order of Henon's x, then XOR with bytes of his y, the same for all images.

    Source: W. Chen and X. Zhang, Image encryption algorithm based on Henon chaotic system, IASP 2009, its two steps. Broken by known
    images, since the XOR of two images loses the mask: S. Li, C. Li, G. Chen, N. Bourbakis and K.-T. Lo, A general quantitative
    cryptanalysis of permutation-only multimedia ciphers against plaintext attacks, Signal Process. Image Commun. 23(3), 2008.
    """
    start = rng.uniform(-0.1, 0.1, (2, 1))
    states = _orbit(lambda s: np.stack([1 - 1.4 * s[0] ** 2 + s[1], 0.3 * s[0]]), start, images[0].size)
    order, mask = np.argsort(states[0, 0]), (np.abs(states[1, 0]) * 1e14 % 256).astype(np.uint8)
    flat = images.reshape(len(images), -1)
    if not decrypt:
        return (flat[:, order] ^ mask).reshape(images.shape)
    plain = np.empty_like(flat)
    plain[:, order] = flat ^ mask
    return plain.reshape(images.shape)


def lorenz_feedback(images: np.ndarray, rng: np.random.Generator, *, decrypt: bool = False) -> np.ndarray:
    """Chain pixels: c_i = k_i ^ ((p_i + k_i) mod 256) ^ c_(i-1), with k from Lorenz' system, the same for all images; c_(-1) is a key byte.

    Source: G. Chen, Y. Mao and C. Chui, A symmetric image encryption scheme based on 3D chaotic cat maps, Chaos, Solitons & Fractals
    21(3), 2004, its diffusion. Broken by known and chosen images: K. Wang et al., On the security of 3D cat map based symmetric image
    encryption scheme, Physics Letters A 343(6), 2005: c_i ^ c_(i-1) depends on p_i alone.
    """

    def step(s: np.ndarray) -> np.ndarray:
        x, y, z = s
        return s + 0.01 * np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    states = _orbit(step, rng.uniform(1, 2, (3, 1)), images[0].size)
    key, first = (np.abs(states[0, 0]) * 1e12 % 256).astype(np.uint8), rng.integers(0, 256, dtype=np.uint8)
    flat = images.reshape(len(images), -1)
    if not decrypt:
        return (np.bitwise_xor.accumulate(key ^ (flat + key), axis=1) ^ first).reshape(images.shape)
    before = np.concatenate([np.full((len(flat), 1), first), flat[:, :-1]], axis=1)
    return ((flat ^ before ^ key) - key).reshape(images.shape)


def _orbit(step, start: np.ndarray, length: int) -> np.ndarray:
    """Return the states (..., length) that follow `start` (...), without the first hundred."""
    states, state = np.empty((*start.shape, length)), start
    for i in range(-100, length):
        state = step(state)
        if i >= 0:
            states[..., i] = state
    return states
