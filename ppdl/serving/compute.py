"""Worker processes that evaluate the head: gmpy2's products hold the interpreter's lock, so threads would wait for each other.

A worker holds the head's weights and clients' public keys. No private key is anywhere on this side.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.crypto.keys import PublicKey
from ppdl.serving.limits import Room
from ppdl.serving.problems import ProblemError
from ppdl.serving.protocol import SINGLE

if TYPE_CHECKING:
    from ppdl.private_head.evaluator import HeadEvaluator

_worker_evaluator: HeadEvaluator | None = None


class Workers:
    """Evaluate queries in processes, as many at a time as there are workers, and let a few wait.

    Args:
        head_path: folder of the head.
        num_workers: processes.
        max_queue: queries in work or waiting; more are refused.
    """

    def __init__(self, head_path: Path, *, mask_bits: int, num_workers: int, max_queue: int) -> None:
        self._head_path, self._mask_bits, self._num_workers = head_path, mask_bits, num_workers
        self.room = Room(max_queue, "queries")
        self._pool = self._start()

    def wait_until_ready(self) -> None:
        """Return when the workers have loaded the head."""
        for started in [self._pool.submit(os.getpid) for _ in range(self._num_workers)]:  # one starts for each that finds none idle
            started.result()

    async def evaluate(self, key: PublicKey, mode: int, ciphertexts: np.ndarray, num_images: int) -> np.ndarray:
        """Evaluate the head: uint8 (num_classes, ciphertext_bytes). The caller holds a place in `room`. Raises: as `run`."""
        answer: np.ndarray = await self.run(_evaluate, key, mode, ciphertexts, num_images)
        return answer

    async def run(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Return function(*arguments) of a worker.

        The caller holds a place in `room`, which this leaves when the work is done, though the caller may be gone.

        Raises: ProblemError `busy` when a worker died (the request can be sent again), and what the function raises.
        """
        pool = self._pool
        try:
            future = pool.submit(function, *arguments)
        except BrokenProcessPool:
            self.room.leave()
            raise self._recovered(pool) from None
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda done: _call(loop, self.room.leave))
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
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
            initargs=(self._head_path, self._mask_bits),
        )


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)


def _load(head_path: Path, mask_bits: int) -> None:
    global _worker_evaluator
    from ppdl.private_head.evaluator import HeadEvaluator
    from ppdl.private_head.head import load_head

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server stops its workers
    threading.Thread(target=_follow_parent, daemon=True).start()
    _worker_evaluator = HeadEvaluator(load_head(head_path), mask_bits=mask_bits)


def _follow_parent() -> None:
    """End this worker when the server is gone, even if it was killed: nobody would wait for the answer."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _evaluate(key: PublicKey, mode: int, ciphertexts: np.ndarray, num_images: int) -> np.ndarray:
    if _worker_evaluator is None:
        raise RuntimeError("the initializer of the pool has not run")
    if mode == SINGLE:
        return _worker_evaluator.evaluate(key, ciphertexts)
    return _worker_evaluator.evaluate_batch(key, ciphertexts, num_images)
