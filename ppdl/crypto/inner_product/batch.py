"""Evaluate a secret linear head on a batch: slot = image, one ciphertext a feature.

Ciphertext i holds feature i of all images, one a slot, so that a class is a product of small powers, slot by slot. No slot holds anything
but a logit. An answer holds

    P = sum over images of 2^(slot_bits b) (logit_b + 2^(slot_bits - 1)) + 2^(slot_bits num_images) rest

Exactness. |logit| <= V + |bias| <= 2 V < 2^(slot_bits - 1) (see inner.py), so every slot is in [0, 2^slot_bits): nothing is carried.

What lies above the images of the batch is 0 from an honest client. The server adds a uniform number to it, so that whoever puts more
images there than declared gets nothing for it. From any client, an answer gives away at most slot_bits * num_images + HEADROOM_BITS bits
about the weights of its class, for its mask has all other bits of P of entropy (given gcd(n, phi(n)) = 1, see modulus_proof.py). The client
knows the randomness of what it sent, and the weights are secret: so answers are re-randomised.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.derived import Randbelow
from ppdl.crypto.arithmetic.multiexp import bucket_product
from ppdl.crypto.arithmetic.numbers import to_array
from ppdl.crypto.arithmetic.obfuscators import Obfuscators
from ppdl.crypto.arithmetic.packing import HEADROOM_BITS, SlotPacking
from ppdl.crypto.arithmetic.paillier import add_plaintext, decrypt_batch, encrypt_batch, rerandomise
from ppdl.crypto.inner_product.checks import HeadPacking, check_features, check_head, read_ciphertexts
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey
from ppdl.errors import CryptoError


@dataclass(frozen=True)
class BatchPacking(HeadPacking):
    """Lay out the features of up to `capacity` images, one a slot: 72 at 2048 bits and 1,280 features, 109 at 3072.

    Args:
        feature_bits: of unsigned features, 1 to 8.
        weight_bits: of signed weights, 2 to 8.

    Raises: CryptoError when a size is out of its range, or the key is too short for one image.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        SlotPacking(self.key_bits, self.slot_bits)

    @property
    def slot_bits(self) -> int:
        return self.logit_bits

    @property
    def capacity(self) -> int:
        """Images in a batch at most."""
        return (self.key_bits - HEADROOM_BITS) // self.slot_bits

    @property
    def num_ciphertexts(self) -> int:
        return self.num_features

    def pack(self, features: np.ndarray, public_key: PublicKey) -> list[mpz]:
        """Pack features (num_images, num_features) into one plaintext a feature."""
        self.check_num_images(len(features))
        check_features(features, (len(features), self.num_features), self.feature_bits)
        slots = np.pad(features.T.astype(np.int64), ((0, 0), (0, self.capacity - len(features))))  # (num_features, capacity)
        return SlotPacking(self.key_bits, self.slot_bits).pack(slots.ravel(), public_key)

    def unpack(self, plaintexts: Sequence[int], num_images: int) -> np.ndarray:
        """Read the logits from answers' plaintexts: int64 (num_images, num_plaintexts). Raises: CryptoError for what no answer holds."""
        self.check_answers(plaintexts)
        half = 1 << (self.slot_bits - 1)
        slots = [[int(m >> (self.slot_bits * b)) % (2 * half) - half for m in plaintexts] for b in range(num_images)]
        return np.array(slots, np.int64).reshape(num_images, len(plaintexts))

    def check_num_images(self, num_images: int) -> None:
        if not 1 <= num_images <= self.capacity:
            raise CryptoError(f"a batch of this packing has 1 to {self.capacity} images, got {num_images}")


class BatchHead:
    """Evaluate one head on many batches.

    Args:
        weights: integers (num_classes, num_features) of packing.weight_bits bits.
        bias: integers (num_classes,), at most packing.largest in size.

    Raises: CryptoError when weights or bias do not fit the packing.
    """

    def __init__(self, weights: np.ndarray, bias: np.ndarray, packing: BatchPacking) -> None:
        self.packing = packing
        self._bias = check_head(weights, bias, packing)
        self._weights: list[list[int]] = np.asarray(weights).tolist()

    def evaluate(
        self, public_key: PublicKey, ciphertexts: np.ndarray, num_images: int, randbelow: Randbelow = secrets.randbelow
    ) -> np.ndarray:
        """Evaluate the head on a batch, mask the slots above its images, and re-randomise.

        Args:
            ciphertexts: uint8 (num_features, ciphertext_bytes) from encrypt_feature_batch.
            num_images: that the batch holds.
            randbelow: draws masks and randomness; two answers to one request must have the same, see derived.py.
        Returns: uint8 (num_classes, ciphertext_bytes).
        Raises: CryptoError when the key is of another length, num_images exceeds the capacity, or a ciphertext is missing, out of range or
            not prime to n.
        Cost: for 3 classes at 2048 bits 30 ms a batch, and a `standard` obfuscator a class (9 ms).
        """
        self.packing.check_key(public_key)
        self.packing.check_num_images(num_images)
        numbers = read_ciphertexts(public_key, ciphertexts, self.packing.num_ciphertexts)
        n_squared = mpz(public_key.n_squared)
        products = [bucket_product(numbers, row, n_squared) for row in self._weights]
        added = [self._added(bias, num_images, randbelow) for bias in self._bias]
        return rerandomise(public_key, add_plaintext(public_key, to_array(public_key, products), added), randbelow)

    def _added(self, bias: int, num_images: int, randbelow: Randbelow) -> int:
        """Return what is added to one class: bias and 2^(slot_bits - 1) in each image's slot, a uniform number above."""
        bits = self.packing.slot_bits
        ones = ((1 << (bits * num_images)) - 1) // ((1 << bits) - 1)
        room = self.packing.key_bits - HEADROOM_BITS - bits * num_images
        return ones * (bias + (1 << (bits - 1))) + (randbelow(1 << room) << (bits * num_images))


def encrypt_feature_batch(public_key: PublicKey, features: np.ndarray, packing: BatchPacking, *, obfuscators: Obfuscators) -> np.ndarray:
    """Encrypt the features of a batch, as the client.

    Args:
        features: uint8 (num_images, num_features), at most packing.capacity images.
        obfuscators: of the same key; the private key's own are faster.
    Returns: uint8 (num_features, ciphertext_bytes).
    Raises: CryptoError when features do not fit the packing or the key is of another length.
    Cost: an obfuscator a feature: 1,280 * 0.4 ms at 2048 bits with `djn`, however many images.
    """
    packing.check_key(public_key)
    return encrypt_batch(public_key, packing.pack(features, public_key), obfuscators)


def decrypt_logit_batch(private_key: PrivateKey, ciphertexts: np.ndarray, packing: BatchPacking, num_images: int) -> np.ndarray:
    """Decrypt an answer, as the client: int64 logits, (num_images, num_classes), exactly those of the integer head.

    Never tell the server anything that depends on the result (see inner.decrypt_logits).

    Raises: CryptoError when num_images exceeds the capacity, or a ciphertext is damaged or of another key.
    """
    packing.check_key(private_key.public)
    packing.check_num_images(num_images)
    return packing.unpack(decrypt_batch(private_key, ciphertexts), num_images)
