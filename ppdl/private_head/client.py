"""The client's side: features in, logits out; the private key stays here."""

from dataclasses import dataclass, field

import numpy as np

from ppdl.crypto.arithmetic.obfuscators import DEFAULT_TABLE_BYTES, Obfuscators, build_obfuscators
from ppdl.crypto.inner_product.batch import BatchPacking, decrypt_logit_batch, encrypt_feature_batch
from ppdl.crypto.inner_product.single import InnerPacking, decrypt_logits, encrypt_features
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, check_purpose
from ppdl.crypto.keys.purpose import INFERENCE


@dataclass
class PrivateClient:
    """Encrypt features for a server, and decrypt what it answers.

    Args:
        private_key: of the client. It is not printed, pickled or sent.
        packing: of single images; `batch_packing` fits it.
        obfuscator: djn, or standard for a key without h.
        table_bytes: memory of `djn`'s tables, which are built with the first request and kept.

    Raises:
        KeyStoreError: the key is for another purpose than inference.
    """

    private_key: PrivateKey = field(repr=False)
    packing: InnerPacking
    obfuscator: str = "djn"
    table_bytes: int = DEFAULT_TABLE_BYTES
    _obfuscators: Obfuscators | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_purpose(self.private_key.public, INFERENCE)

    @property
    def public_key(self) -> PublicKey:
        return self.private_key.public

    @property
    def batch_packing(self) -> BatchPacking:
        return BatchPacking(self.packing.key_bits, self.packing.num_features, self.packing.feature_bits, self.packing.weight_bits)

    def request(self, features: np.ndarray) -> np.ndarray:
        """Encrypt one image's features, uint8 (num_features,): uint8 (num_ciphertexts, ciphertext_bytes), fresh obfuscators in each."""
        return encrypt_features(self.public_key, features, self.packing, obfuscators=self._source())

    def answer(self, ciphertexts: np.ndarray) -> np.ndarray:
        """Decrypt the server's answer: int64 (num_classes,). Tell the server nothing that depends on it."""
        return decrypt_logits(self.private_key, ciphertexts, self.packing)

    def request_batch(self, features: np.ndarray) -> np.ndarray:
        """Encrypt a batch, uint8 (num_images, num_features), at most batch_packing.capacity images: one ciphertext a feature."""
        return encrypt_feature_batch(self.public_key, features, self.batch_packing, obfuscators=self._source())

    def answer_batch(self, ciphertexts: np.ndarray, num_images: int) -> np.ndarray:
        """Decrypt the server's answer to a batch: int64 (num_images, num_classes)."""
        return decrypt_logit_batch(self.private_key, ciphertexts, self.batch_packing, num_images)

    def prepare(self) -> None:
        """Build the tables now, so that the first request does not wait for them."""
        self._source()

    def _source(self) -> Obfuscators:
        if self._obfuscators is None:
            self._obfuscators = build_obfuscators(self.private_key, self.obfuscator, table_bytes=self.table_bytes)
        return self._obfuscators
