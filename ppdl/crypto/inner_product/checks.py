"""Rules that both ways to evaluate a head share: sizes, features, weights, keys and hostile ciphertexts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.numbers import check_ciphertexts, from_array
from ppdl.crypto.arithmetic.packing import HEADROOM_BITS
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.errors import CryptoError

LEAST_MASK_BITS, LARGEST_MASK_BITS = 40, 128
MOST_FEATURES = 1 << 14  # a logit of 8-bit features and weights then fits a slot of 32 bits


@dataclass(frozen=True)
class HeadPacking:
    """Say what a head and its features must fit, one image at a time or in batches.

    Raises: CryptoError when a size is out of the range that features in uint8 and weights in int8 can have.
    """

    key_bits: int
    num_features: int
    feature_bits: int = 8
    weight_bits: int = 8

    def __post_init__(self) -> None:
        if self.num_features < 1:
            raise CryptoError(f"num_features must be at least 1, got {self.num_features}")
        if self.num_features > MOST_FEATURES:
            raise CryptoError(f"num_features must be at most {MOST_FEATURES}, got {self.num_features}")
        if not 1 <= self.feature_bits <= 8:
            raise CryptoError(f"feature_bits must be 1 to 8, got {self.feature_bits}")
        if not 2 <= self.weight_bits <= 8:
            raise CryptoError(f"weight_bits must be 2 to 8, got {self.weight_bits}")

    @property
    def largest(self) -> int:
        """V: the largest absolute value of a sum of products of a feature and a weight."""
        return self.num_features * ((1 << self.feature_bits) - 1) * (1 << (self.weight_bits - 1))

    @property
    def logit_bits(self) -> int:
        """Bits of a logit with its bias, which may be as large as V."""
        return (2 * self.largest).bit_length() + 1

    def check_key(self, public_key: PublicKey) -> None:
        """Refuse a key of another length."""
        if public_key.key_bits != self.key_bits:
            raise CryptoError(f"the packing is for a {self.key_bits}-bit key, got one of {public_key.key_bits} bits")

    def check_answers(self, plaintexts: Sequence[int]) -> None:
        """Refuse plaintexts that no answer holds."""
        used = self.key_bits - HEADROOM_BITS
        if wrong := [i for i, m in enumerate(plaintexts) if m >> used]:
            raise CryptoError(f"answer {wrong[0]} exceeds the packing ({used} bits): wrong private key, or not what a server computes")


def check_features(features: np.ndarray, shape: tuple[int, ...], feature_bits: int) -> None:
    """Refuse features of another type, shape or range. Never quotes a value."""
    if features.dtype != np.uint8 or features.shape != shape:
        raise CryptoError(f"features must be uint8 {shape}, got {features.dtype} {features.shape}")
    if features.size and int(features.max()) >> feature_bits:
        raise CryptoError(f"features must be below 2^{feature_bits}, and one is not")


def check_head(weights: np.ndarray, bias: np.ndarray, packing: HeadPacking) -> list[int]:
    """Refuse weights and biases that do not fit a packing; return the biases. Never quotes a value: the head is secret."""
    weights, bias = np.asarray(weights), np.asarray(bias)
    if weights.dtype.kind not in "iu" or weights.ndim != 2 or weights.shape[1] != packing.num_features or not len(weights):
        raise CryptoError(f"weights must be integers (num_classes, {packing.num_features}), got {weights.dtype} {weights.shape}")
    if bias.dtype.kind not in "iu" or bias.shape != weights.shape[:1]:
        raise CryptoError(f"bias must be integers ({len(weights)},), got {bias.dtype} {bias.shape}")
    half = 1 << (packing.weight_bits - 1)
    if int(weights.min()) < -half or int(weights.max()) >= half:
        raise CryptoError(f"weights must lie in [-{half}, {half}) to have {packing.weight_bits} bits, and one does not")
    biases = [int(b) for b in bias]
    if max(map(abs, biases)) > packing.largest:
        raise CryptoError(f"bias must be at most {packing.largest} in size, the largest sum of products, and one is not")
    return biases


def read_ciphertexts(public_key: PublicKey, ciphertexts: np.ndarray, num_ciphertexts: int) -> list[mpz]:
    """Read ciphertexts of unknown origin: their number, their length, (0, n^2) and no factor in common with n.

    Raises: CryptoError with the rule that one breaks.
    """
    numbers = from_array(public_key, ciphertexts)
    if len(numbers) != num_ciphertexts:
        raise CryptoError(f"a request of this packing has {num_ciphertexts} ciphertexts, got {len(numbers)}")
    check_ciphertexts(public_key, numbers)
    return numbers
