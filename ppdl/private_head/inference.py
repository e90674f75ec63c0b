"""Client and server in one process: classify images that stay encrypted, and make sure that nothing was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from ppdl.crypto.inner_product.checks import LARGEST_MASK_BITS, LEAST_MASK_BITS
from ppdl.crypto.keys.keypair import PrivateKey
from ppdl.errors import CryptoError
from ppdl.private_head.client import PrivateClient
from ppdl.private_head.evaluator import HeadEvaluator
from ppdl.private_head.head import QuantisedHead

NUM_SINGLE = 2  # images that are classified one by one too, to measure what one costs


@dataclass(frozen=True)
class Inference:
    """Say how images are classified under encryption: in batches, and the first few one by one as well.

    Args:
        mask_bits: What a client sees beside a logit depends on the weights by a statistical distance below 2 * 2^-mask_bits; 40 to 128.
    """

    mask_bits: Annotated[int, Ge(LEAST_MASK_BITS), Le(LARGEST_MASK_BITS)]

    def run(self, head: QuantisedHead, features: np.ndarray, private_key: PrivateKey) -> Answers:
        """Encrypt features, evaluate the head on the ciphertexts with the public key, decrypt the logits.

        Args:
            features: uint8 (num_images, num_features).

        Raises:
            CryptoError: a decrypted logit is not that of the integer head, or the key is too short.

        Cost: see benchmarks/private_head.py.
        """
        evaluator = HeadEvaluator(head, mask_bits=self.mask_bits)
        client = PrivateClient(private_key, evaluator.packing(private_key.public.key_bits))
        expected, size = head.logits(features), client.batch_packing.capacity
        batched, single = Traffic(), Traffic()
        client.prepare()
        parts = [features[start : start + size] for start in range(0, len(features), size)]
        ask, ask_batch = (partial(way, client.public_key) for way in (evaluator.evaluate, evaluator.evaluate_batch))
        together = [batched.ask(len(part), partial(client.request_batch, part), partial(ask_batch, num_images=len(part))) for part in parts]
        alone = [single.ask(1, partial(client.request, row), ask) for row in features[:NUM_SINGLE]]
        # Only now is anything decrypted, as docs/protocol.md asks of every client: what is sent must not depend on it.
        decrypted = (batched.decrypt(partial(client.answer_batch, *pair)) for pair in zip(together, map(len, parts), strict=True))
        logits = np.concatenate([expected[:0], *decrypted])
        alone = [single.decrypt(partial(client.answer, answer)) for answer in alone]
        for name, found in (("in batches", logits), ("one by one", np.array(alone).reshape(-1, head.num_classes))):
            if not np.array_equal(found, expected[: len(found)]):
                row = int(np.argmax((found != expected[: len(found)]).any(axis=1)))
                raise CryptoError(f"image {row}: the logits decrypted {name} are not those of the integer head; nothing was written")
        return Answers(logits, batched, single)


@dataclass
class Traffic:
    """Add up what requests cost, in seconds of wall time and in bytes, over num_images images."""

    num_images: int = 0
    encrypt_s: float = 0.0
    evaluate_s: float = 0.0
    decrypt_s: float = 0.0
    up_bytes: int = 0
    down_bytes: int = 0

    def ask(self, num_images: int, encrypt: Callable[[], np.ndarray], evaluate: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Send one request, and return its answer as it came."""
        start = time.perf_counter()
        sent = encrypt()
        encrypted = time.perf_counter()
        answer = evaluate(sent)
        self.evaluate_s += time.perf_counter() - encrypted
        self.encrypt_s += encrypted - start
        self.num_images += num_images
        self.up_bytes += sent.nbytes
        self.down_bytes += answer.nbytes
        return answer

    def decrypt(self, decrypt: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what the client decrypts of an answer."""
        start = time.perf_counter()
        logits = decrypt()
        self.decrypt_s += time.perf_counter() - start
        return logits

    def each(self) -> dict[str, float]:
        """Return the same an image: seconds and bytes."""
        names = ("encrypt_s", "evaluate_s", "decrypt_s", "up_bytes", "down_bytes")
        return {name: round(getattr(self, name) / self.num_images, 6) for name in names} if self.num_images else {}


@dataclass(frozen=True, eq=False)
class Answers:
    """Hold the decrypted logits, int64 (num_images, num_classes), and what they cost in batches and one by one."""

    logits: np.ndarray
    batched: Traffic
    single: Traffic

    @property
    def cost(self) -> dict[str, float]:
        """What is recorded: all bytes that travelled, the number of images, and what one costs in a batch and alone."""
        ways = {"batch": self.batched, "single": self.single}
        found = {f"{way}_{key}": value for way, traffic in ways.items() for key, value in traffic.each().items()}
        return {"bytes": self.batched.up_bytes + self.batched.down_bytes, "num_images": self.batched.num_images} | found
