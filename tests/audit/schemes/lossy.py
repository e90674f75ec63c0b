"""What hides images by losing a part of them: mixing, shrinking, noise. Nobody decrypts these. Conventions as in `pads`."""

from __future__ import annotations

import numpy as np

from tests.audit.schemes.films import films


def instahide(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mix each image with another of the set and two public ones, and turn the sign of each pixel at random: float32 in -1..1.

    Source: Y. Huang, Z. Song, K. Li and S. Arora, InstaHide: instance-hiding schemes for private distributed learning, ICML 2020, with
    k = 4 and no coefficient above 0.65. Broken: N. Carlini et al., Is private learning possible with instance encoding?, IEEE S&P 2021.
    """
    public = films(31, 20, images.shape[1])
    mixed = np.empty(images.shape, np.float32)
    for i, image in enumerate(images):
        weights = np.sort(rng.dirichlet(np.ones(4)))[::-1]
        while weights[0] > 0.65:
            weights = np.sort(rng.dirichlet(np.ones(4)))[::-1]
        parts = np.stack([image, images[rng.integers(len(images))], *public[rng.integers(len(public), size=2)]]) / 127.5 - 1
        mixed[i] = np.tensordot(weights, parts, 1) * (rng.integers(0, 2, image.shape) * 2 - 1)
    return mixed


def downscaled(images: np.ndarray, rng: np.random.Generator, *, factor: int) -> np.ndarray:
    """Replace squares of `factor` x `factor` pixels by their mean, at the size of the images.

    Source: pixelation, as R. McPherson, R. Shokri and V. Shmatikov, Defeating image obfuscation with deep learning, arXiv:1609.00408, 2016.
    """
    n, height, width = images.shape
    small = images.reshape(n, height // factor, factor, width // factor, factor).mean((2, 4))
    return np.rint(small).astype(np.uint8).repeat(factor, 1).repeat(factor, 2)


def noisy(images: np.ndarray, rng: np.random.Generator, *, sigma: float) -> np.ndarray:
    """Add Gaussian noise of a standard deviation in gray levels, without clipping: float32.

    Source: R. Agrawal and R. Srikant, Privacy-preserving data mining, SIGMOD 2000: value distortion.
    """
    return (images + rng.normal(0, sigma, images.shape)).astype(np.float32)
