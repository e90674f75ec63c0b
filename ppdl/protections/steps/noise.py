"""Gaussian noise that only its owner can draw again: a PRF of an owner's secret over the image and the configuration.

A seed in params.yaml would let everybody subtract the noise, and fresh randomness would let anybody who sees two runs average it away. So
the noise of an image is a fixed function of three things: a secret, which lies beside the private keys; the configuration (filters,
clipping, level); and what the filters gave on the image. Equal image and configuration: the same noise, in every run, row and data set.
Anything else: independent noise. So two releases of one image under different configurations compose: their noises average. No claim of
differential privacy is made; repeated releases, similar images and clipping would all have to be accounted for.

The stream of an image is ChaCha20 (RFC 8439) under the key HMAC-SHA-256(secret, configuration and outputs) (RFC 2104): a key of its own for
each image, so that the nonce may be zero. Numbers are drawn from the discrete Gaussian by inversion of its distribution function.

Source: L. Devroye, "Non-Uniform Random Variate Generation", 1986, section III.2 (inversion by table); C. Canonne, G. Kamath, T. Steinke,
"The Discrete Gaussian for Differential Privacy", NeurIPS 2020 (the distribution).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from ppdl.crypto.keys.keyfile import read_file
from ppdl.crypto.keys.keypair import Secret
from ppdl.crypto.keys.keystore import check_private_dir, create_private
from ppdl.errors import ConfigError, KeyStoreError

logger = logging.getLogger(__name__)

NOISE_FILE = "noise_secret.json"
_FORMAT = "ppdl noise secret v1"
_DOMAIN = b"ppdl noise v1"
_SECRET_BYTES = 32
_TAIL = 9.5  # standard deviations; beyond lie less than 2^-63 of the distribution, the resolution of a draw
LARGEST_SIGMA = 2.0**20  # the table of a level has 9.5 sigma entries of 8 bytes: 80 MB


class NoiseSecret(Secret):
    """Hold the owner's secret; refuse to be printed, copied or pickled.

    Raises:
        KeyStoreError: the secret has not 32 bytes.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _SECRET_BYTES:
            raise KeyStoreError(f"a noise secret must have {_SECRET_BYTES} bytes, got {len(secret)}")
        self._secret = bytes(secret)

    @property
    def identifier(self) -> str:
        """Name the secret without revealing it: two runs with the same name draw the same noise."""
        return self._derive(b"identifier").hex()[:16]

    def _derive(self, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(8, "big") + part for part in (_DOMAIN, *parts))
        return hmac.digest(self._secret, message, hashlib.sha256)

    def draw(self, configuration: dict[str, Any], outputs: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """Draw the noise of one image.

        Args:
            configuration: JSON values, everything but the image that decides what is revealed.
            outputs: (channels, height, width) int64, what the filters gave on the image.
            sigma: (channels,), standard deviations.

        Returns:
            (channels, height, width) int64 from the discrete Gaussian of each channel's sigma.

        Cost: about 0.2 us a number, nearly all of it the look-up.
        """
        shape = json.dumps([configuration, list(outputs.shape)], sort_keys=True, allow_nan=False).encode()
        key = self._derive(b"image", shape, np.ascontiguousarray(outputs, "<i8").tobytes())
        stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
        words = np.frombuffer(stream.update(bytes(8 * outputs.size)), "<u8").reshape(outputs.shape)
        return np.stack([discrete_gaussian(channel, float(level)) for channel, level in zip(words, sigma, strict=True)])


def discrete_gaussian(words: np.ndarray, sigma: float) -> np.ndarray:
    """Turn uniform 64-bit words into integers k of probability proportional to exp(-k^2 / (2 sigma^2)), int64.

    The lowest bit is the sign, the other 63 bits choose |k|: the number of k' >= 1 for which they lie below P(|k| >= k').

    Raises:
        ConfigError: sigma is not in [0, LARGEST_SIGMA].
    """
    if not 0 <= sigma <= LARGEST_SIGMA:
        raise ConfigError(f"the standard deviation of the noise must be from 0 to {LARGEST_SIGMA:.0f}, got {sigma}")
    if sigma == 0:
        return np.zeros(words.shape, np.int64)
    thresholds = _thresholds(sigma)
    size = len(thresholds) - np.searchsorted(thresholds, words >> np.uint64(1), side="right")
    return np.where(words & np.uint64(1), -size, size).astype(np.int64)


@lru_cache(maxsize=8)
def _thresholds(sigma: float) -> np.ndarray:
    """Return 2^63 P(|k| >= k') for k' = 1, 2, ..., ascending, (num_thresholds,) uint64.

    Sums run from the tail inwards, so that small probabilities keep their precision.
    """
    weights = np.exp(-0.5 * (np.arange(int(np.ceil(_TAIL * sigma)), 0, -1) / sigma) ** 2)
    tails = 2 * np.cumsum(weights)
    return np.floor(tails / (1 + tails[-1]) * 2.0**63).astype(np.uint64)


def load_noise_secret(private_dir: Path, *, project: Path) -> NoiseSecret:
    """Load the owner's secret, `noise_secret.json` beside the private keys; make it, once, when it is missing.

    It belongs to the folder rather than to a key pair, so that noise stays the same when keys are rotated. Once lost, the next release
    gets other noise, and both together have less.

    Raises:
        KeyStoreError: the folder lies inside the project or is open to others, or the file is damaged.
    """
    private_dir = Path(private_dir)
    check_private_dir(private_dir, project)
    path = private_dir / NOISE_FILE
    private_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        _create(path)
        logger.warning("made the noise secret %s: back it up, for without it the next release gets other noise, and two average", path)
    text = read_file(path, 4096, what="secret")
    try:
        content = json.loads(text)
        if set(content) != {"format", "secret"} or content["format"] != _FORMAT:
            raise ValueError
        return NoiseSecret(bytes.fromhex(content["secret"]))
    except (ValueError, TypeError, KeyStoreError):  # the content is never quoted
        raise KeyStoreError(f"{path}: damaged: must be a JSON object of `format` {_FORMAT!r} and 32 bytes in hex; restore it") from None


def _create(path: Path) -> None:
    """Write a new secret, complete or not at all, never over another file."""
    if path.parent.stat().st_mode & 0o077:
        raise KeyStoreError(f"{path.parent}: the folder of private keys must be closed to others: chmod 700 {path.parent}")
    with contextlib.suppress(FileExistsError):  # another process was first: its secret is the one
        create_private(path, {"format": _FORMAT, "secret": secrets.token_hex(_SECRET_BYTES)})
