"""The server's side: a secret head evaluated on ciphertexts, with the client's public key alone."""

import secrets
from functools import lru_cache

import numpy as np

from ppdl.crypto.arithmetic.derived import Randbelow
from ppdl.crypto.inner_product.batch import BatchHead, BatchPacking
from ppdl.crypto.inner_product.single import InnerHead, InnerPacking
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.private_head.head import QuantisedHead


class HeadEvaluator:
    """Evaluate one head for any client. What depends on the head and a key's length is computed once for each length.

    Safe to use from several threads.

    Args:
        mask_bits: what a client sees beside its logits depends on the weights by a statistical distance below 2 * 2^-mask_bits a class.
    """

    def __init__(self, head: QuantisedHead, *, mask_bits: int = 40) -> None:
        self.head, self.mask_bits = head, mask_bits
        self._single = lru_cache(maxsize=8)(self._build_single)
        self._batch = lru_cache(maxsize=8)(self._build_batch)

    def packing(self, key_bits: int) -> InnerPacking:
        """Return how clients with such keys pack one image. Raises: CryptoError when the key is too short."""
        return InnerPacking(key_bits, self.head.num_features, mask_bits=self.mask_bits)

    def batch_packing(self, key_bits: int) -> BatchPacking:
        """Return how clients with such keys pack a batch. Raises: CryptoError when the key is too short."""
        return BatchPacking(key_bits, self.head.num_features)

    def evaluate(self, public_key: PublicKey, ciphertexts: np.ndarray, randbelow: Randbelow = secrets.randbelow) -> np.ndarray:
        """Answer one image's request: uint8 (num_ciphertexts, ciphertext_bytes) to (num_classes, ciphertext_bytes).

        Raises: CryptoError with the rule that a ciphertext, or the key's length, breaks.
        Cost: see InnerHead; planning takes 0.05 s more for the first key of a length.
        """
        return self._single(public_key.key_bits).evaluate(public_key, ciphertexts, randbelow)

    def evaluate_batch(
        self, public_key: PublicKey, ciphertexts: np.ndarray, num_images: int, randbelow: Randbelow = secrets.randbelow
    ) -> np.ndarray:
        """Answer a batch's request: uint8 (num_features, ciphertext_bytes) to (num_classes, ciphertext_bytes).

        Raises: CryptoError with the rule that a ciphertext, num_images or the key's length breaks.
        Cost: see BatchHead.
        """
        return self._batch(public_key.key_bits).evaluate(public_key, ciphertexts, num_images, randbelow)

    def _build_single(self, key_bits: int) -> InnerHead:
        return InnerHead(self.head.weights, self.head.bias, self.packing(key_bits))

    def _build_batch(self, key_bits: int) -> BatchHead:
        return BatchHead(self.head.weights, self.head.bias, self.batch_packing(key_bits))
