"""Ciphers of pixels and of their places: substitution, permutation, linear maps, DNA coding. Conventions as in `pads`."""

from __future__ import annotations

import numpy as np


def substituted(images: np.ndarray, rng: np.random.Generator, *, fresh: bool, decrypt: bool = False) -> np.ndarray:
    """Replace each gray value by another, by one table for all images or one for each.

    Source: al-Kindi's simple substitution. That what stands side by side tells the order of symbols is seriation: W. Robinson, A method
    for chronologically ordering archaeological deposits, American Antiquity 16(4), 1951.
    """
    tables = [rng.permutation(256).astype(np.uint8) for _ in range(len(images) if fresh else 1)]
    tables = [np.argsort(table).astype(np.uint8) for table in tables] if decrypt else tables
    return np.stack([tables[i % len(tables)][image] for i, image in enumerate(images)])


def permuted(images: np.ndarray, rng: np.random.Generator, *, fresh: bool, decrypt: bool = False) -> np.ndarray:
    """Move pixels, in all images alike or in each by an order of its own.

    Source: S. Li, C. Li, G. Chen, N. Bourbakis and K.-T. Lo, A general quantitative cryptanalysis of permutation-only multimedia ciphers
    against plaintext attacks, Signal Process. Image Commun. 23(3), 2008: one order falls to O(log_L(size)) known images of L gray values.
    What stays under any order is the histogram.
    """
    flat = images.reshape(len(images), -1)
    orders = [rng.permutation(flat.shape[1]) for _ in range(len(images) if fresh else 1)]
    orders = [np.argsort(order) for order in orders] if decrypt else orders
    return np.stack([row[orders[i % len(orders)]] for i, row in enumerate(flat)]).reshape(images.shape)


def arnold(images: np.ndarray, rng: np.random.Generator, *, decrypt: bool = False) -> np.ndarray:
    """Move pixel (x, y) to (x + y, x + 2 y) modulo the side, again and again, as often in all images.

    Source: V. Arnold and A. Avez, Ergodic problems of classical mechanics, 1968, as in J. Fridrich, Symmetric ciphers based on
    two-dimensional chaotic maps, Int. J. Bifurcation and Chaos 8(6), 1998. The map has a period of at most three sides (F. Dyson and
    H. Falk, Period of a discrete cat mapping, Am. Math. Monthly 99(7), 1992), so all keys are tried.
    """
    side = images.shape[1]
    y, x = np.indices((side, side))
    for _ in range(int(rng.integers(3, side // 2))):
        to = ((x + y) % side, (x + 2 * y) % side)
        moved = images.copy()
        if decrypt:
            moved[:, y, x] = images[:, to[1], to[0]]
        else:
            moved[:, to[1], to[0]] = images[:, y, x]
        images = moved
    return images


def hill(images: np.ndarray, rng: np.random.Generator, *, decrypt: bool = False) -> np.ndarray:
    """Multiply four pixels of a row by a self-inverse 4 x 4 matrix modulo 256, the same for all.

    Source: L. Hill, Cryptography in an algebraic alphabet, Am. Math. Monthly 36, 1929; B. Acharya, G. Rath, S. Patra and S. Panigrahy,
    Novel methods of generating self-invertible matrix for Hill cipher algorithm, Int. J. Security 1(1), 2007, for its key. Linear, so four
    known blocks give the key (D. Stinson, Cryptography: theory and practice, 1995, section 1.2.5); equal blocks stay equal.
    """
    a, odd = rng.integers(0, 256, (2, 2)), 2 * int(rng.integers(128)) + 1
    one = np.eye(2, dtype=int)
    key = np.block([[a, odd * (one - a)], [pow(odd, -1, 256) * (one + a), -a]])  # [[A, k (I - A)], [(I + A) / k, -A]]^2 = I
    return (images.reshape(len(images), -1, 4).astype(int) @ key.T % 256).astype(np.uint8).reshape(images.shape)


def dna_addition(images: np.ndarray, rng: np.random.Generator, *, decrypt: bool = False) -> np.ndarray:
    """Code bit pairs of pixels as bases, add those of a key image, complement where a key bit is 1, and read bases by another rule.

    One key image, as the paper has it, for all images. Bases A, C, G, T are 0 to 3, and addition is modulo 4.

    Source: Q. Zhang, L. Guo and X. Wei, Image encryption using DNA addition combining with chaotic maps, Math. Comput. Modelling 52,
    2010. Broken by known images: H. Hermassi, A. Belazi, R. Rhouma and S. Belghith, Security analysis of an image encryption algorithm
    based on a DNA addition combining with chaotic maps, Multimedia Tools and Applications 72(3), 2014.
    """
    rules = np.array([[0, 1, 2, 3], [0, 2, 1, 3], [1, 0, 3, 2], [1, 3, 0, 2], [2, 0, 3, 1], [2, 3, 0, 1], [3, 1, 2, 0], [3, 2, 1, 0]])
    write, read = rules[rng.integers(8)], np.argsort(rules[rng.integers(8)])
    key, turned = rng.integers(0, 4, (*images.shape[1:], 4)), rng.integers(0, 2, (*images.shape[1:], 4)) == 1
    shifts = np.array([6, 4, 2, 0])
    bases = images[..., None] >> shifts & 3
    if decrypt:
        bases = np.argsort(read)[bases]
        bases = np.argsort(write)[(np.where(turned, 3 - bases, bases) - key) % 4]
    else:
        bases = (write[bases] + key) % 4
        bases = read[np.where(turned, 3 - bases, bases)]
    return (bases << shifts).sum(-1).astype(np.uint8)
