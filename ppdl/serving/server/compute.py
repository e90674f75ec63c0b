"""Worker processes that evaluate the head: gmpy2's products hold the interpreter's lock, so threads would wait for each other.

A worker holds the head's weights, the secret of the masks and clients' public keys. No private key is anywhere on this side.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.crypto.arithmetic.derived import DerivedRandomness
from ppdl.crypto.inner_product.checks import read_ciphertexts
from ppdl.crypto.keys.jwk import check_composite
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.crypto.keys.modulus_proof import check_modulus_proof
from ppdl.serving.http.limits import Room
from ppdl.serving.problems import ProblemError
from ppdl.serving.protocol import SINGLE, Query, sha256
from ppdl.serving.statement import PROTOCOL

if TYPE_CHECKING:
    from ppdl.private_head.evaluator import HeadEvaluator
    from ppdl.private_head.head import QuantisedHead

_worker: tuple[HeadEvaluator, bytes] | None = None


class Workers:
    """Evaluate queries in processes, as many at a time as there are workers, and let a few wait.

    Args:
        head: the one that every worker evaluates, also one that is started later, whatever becomes of its files.
        secret: that masks are derived from.
        num_workers: processes.
        max_queue: queries and keys in work or waiting: the places of `room`.

    Attributes:
        head_sha256: of weights and biases. It may be stored where the secret is, and told to nobody.
    """

    def __init__(self, head: QuantisedHead, *, mask_bits: int, secret: bytes, num_workers: int, max_queue: int) -> None:
        self._initargs, self._num_workers = (head, mask_bits, secret), num_workers
        self.head_sha256 = sha256(b"".join(_secrets(head)))
        self.room = Room(max_queue, "queries")
        self._pool = self._start()

    def wait_until_ready(self) -> None:
        """Return when the workers have loaded the head."""
        for started in [self._pool.submit(os.getpid) for _ in range(self._num_workers)]:  # one starts for each that finds none idle
            started.result()

    async def run(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Return function(*arguments) of a worker. The caller holds a place in `room`.

        Raises: ProblemError `busy` when a worker died (the request can be sent again), and what the function raises.
        """
        pool = self._pool
        try:
            return await asyncio.wrap_future(pool.submit(function, *arguments))
        except BrokenProcessPool:
            raise self._recovered(pool) from None

    def close(self) -> None:
        """Stop the workers; what waits is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _recovered(self, broken: ProcessPoolExecutor) -> ProblemError:
        """Replace a pool that a dead worker broke, once for all queries that it took down."""
        if self._pool is broken:
            self._pool = self._start()
        return ProblemError("busy", "a worker process died; send the same request again, nothing is charged twice", retry_after_s=1)

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._num_workers,
            mp_context=multiprocessing.get_context("spawn"),  # a fork would copy sockets, locks and threads
            initializer=_load,
            initargs=self._initargs,
        )


def check_key(key: PublicKey, proof: np.ndarray) -> None:
    """Refuse a key that no answer may be given under. Raises: KeyStoreError for its n, CryptoError for the proof."""
    check_composite(key, "the public key")
    check_modulus_proof(key, proof)


def check_query(key: PublicKey, body: bytes) -> None:
    """Refuse a query with a number that is no ciphertext of the key. Raises: CryptoError."""
    ciphertexts = Query.decode(body).ciphertexts
    read_ciphertexts(key, ciphertexts, len(ciphertexts))


def evaluate(key: PublicKey, body: bytes) -> np.ndarray:
    """Evaluate the head on a query: uint8 (num_classes, ciphertext_bytes), the same for the same query, key, head and secret.

    Masks and randomness come from the secret over all that the plaintexts depend on. Without the head among it, the same query asked of
    two heads would show the difference of their partial sums under one mask.
    """
    if _worker is None:
        raise RuntimeError("the initializer of the pool has not run")
    evaluator, secret = _worker
    head, query = evaluator.head, Query.decode(body)
    said = (PROTOCOL.encode(), bytes.fromhex(key.fingerprint), *_secrets(head), body)
    randbelow = DerivedRandomness(secret, *said).randbelow
    if query.mode == SINGLE:
        return evaluator.evaluate(key, query.ciphertexts, randbelow)
    return evaluator.evaluate_batch(key, query.ciphertexts, query.num_images, randbelow)


def _secrets(head: QuantisedHead) -> tuple[bytes, bytes]:
    return head.weights.tobytes(), head.bias.astype("<i8").tobytes()


def _load(head: QuantisedHead, mask_bits: int, secret: bytes) -> None:
    global _worker
    from ppdl.private_head.evaluator import HeadEvaluator

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server stops its workers
    threading.Thread(target=_follow_parent, daemon=True).start()
    _worker = HeadEvaluator(head, mask_bits=mask_bits), secret


def _follow_parent() -> None:
    """End this worker when the server is gone, even if it was killed: nobody would wait for the answer."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
