"""Measure how much faster two worker processes encrypt than one, for benchmarks.crypto."""

import statistics
import time
from functools import lru_cache

import joblib
import numpy as np

from ppdl.crypto.arithmetic.obfuscators import Obfuscators, build_obfuscators
from ppdl.crypto.arithmetic.packing import DensePacking
from ppdl.crypto.arithmetic.paillier import encrypt_batch
from ppdl.crypto.keys.keypair import PublicKey


@lru_cache(maxsize=1)
def worker_source(public_key: PublicKey) -> Obfuscators:
    return build_obfuscators(public_key)


def encrypt_shard(public_key: PublicKey, pixels: np.ndarray) -> float:
    """Encrypt in a worker and return its CPU seconds; the tables are built in its first call."""
    source, start = worker_source(public_key), time.process_time()
    encrypt_batch(public_key, DensePacking(public_key.key_bits).pack(pixels), source)
    return time.process_time() - start


def two_workers_over_one(public_key: PublicKey, pixels: np.ndarray, num_shards: int, repeats: int) -> tuple[float, float]:
    """Return how much faster two processes are than one at the same shards, tables built before, pairs interleaved.

    Returns: the ratio of wall times, which needs idle cores; and twice the ratio of CPU times (this process's for handing out the work
        included), which tells on busy cores too what two workers lose to each other and to the hand-out.
    """
    dense = DensePacking(public_key.key_bits).values_per_plaintext
    size = max(1, len(pixels) // dense // num_shards) * dense
    shards = [pixels[i * size : (i + 1) * size] for i in range(num_shards)]
    wall, cpu = [], []
    with joblib.Parallel(n_jobs=2, batch_size=1, max_nbytes=None) as parallel:

        def run_two() -> float:
            start = time.process_time()
            used = sum(parallel(joblib.delayed(encrypt_shard)(public_key, shard) for shard in shards))
            return used + time.process_time() - start

        run_two()  # both workers build their tables: each shard takes far less than that
        encrypt_shard(public_key, shards[0])
        for _ in range(repeats):
            start = time.perf_counter()
            two_cpu = run_two()
            middle = time.perf_counter()
            one_cpu = sum(encrypt_shard(public_key, shard) for shard in shards)
            wall.append((time.perf_counter() - middle) / (middle - start))
            cpu.append(2 * one_cpu / two_cpu)
    return statistics.median(wall), statistics.median(cpu)
