"""Predict what encrypting and decrypting images costs on this machine, from a few seconds of the real work.

A step is measured by doing a small part of it as a run would do it: in as many workers at once, with tables of the same
size, shards of the same shape. What is left to arithmetic is the number of ciphertexts, which a `Plan` knows exactly.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppdl.crypto.arithmetic.paillier import BATCH_CIPHERTEXTS, decrypt_batch
from ppdl.crypto.artifact.fields import Source
from ppdl.crypto.artifact.header import shard_name
from ppdl.crypto.encryption.ciphertexts import Encryption, ShardTask, drop_tables, encrypt_shard
from ppdl.crypto.encryption.plan import Plan, plan_packing
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey
from ppdl.crypto.workers.parallel import Executor

_SAMPLE_CIPHERTEXTS = BATCH_CIPHERTEXTS  # that a worker encrypts to measure
_SAMPLE_S = 0.5  # least time of the decryption that is measured


@dataclass(frozen=True)
class Job:
    """Describe the artifact whose cost is asked for, and the work that may be spent on measuring.

    Args:
        private_key: a pair of the key length; any will do, since cost depends on the length alone.
    """

    kind: str
    plan: Plan
    private_key: PrivateKey
    obfuscator: str
    executor: Executor


@dataclass(frozen=True)
class Step:
    """Cost of one step: time that passes, time of all cores together, bytes written."""

    name: str
    wall_s: float
    core_s: float
    bytes: int
    detail: str


def plan_job(
    num_images: int,
    px: int,
    private_key: PrivateKey,
    *,
    kind: str,
    stride: int,
    slot_bits: int,
    obfuscator: str,
    executor: Executor,
) -> Job:
    """Plan the artifact of `num_images` images of px * px.

    Raises:
        ConfigError: values that do not fit together.
    """
    plan = plan_packing(
        Source(num_images, px, px),
        kind=kind,
        key_bits=private_key.public.key_bits,
        stride=stride,
        slot_bits=slot_bits,
        images_per_group=None,
        executor=executor,
    )
    return Job(kind, plan, private_key, obfuscator, executor)


def estimate(job: Job) -> Iterator[Step]:
    """Measure and predict encryption, then decryption.

    Cost: for encryption the obfuscator tables and a batch in each worker, for decryption about a second.
    """
    yield encryption_step(job)
    yield decryption_step(job)


def _encrypt_sample(task: ShardTask) -> tuple[float, ...]:
    """Encrypt and write a shard as a run would (in a worker), again until there are _SAMPLE_CIPHERTEXTS.

    Returns:
        when this began (time.time), CPU time of the process until then; wall and CPU time of the tables; the same of a ciphertext.
    """
    began, imports_core_s, rows = time.time(), time.process_time(), 0
    clocks = [(time.perf_counter(), time.process_time())]
    task.encryption.encrypt(task.images[:0])  # no images: tables alone
    clocks.append((time.perf_counter(), time.process_time()))
    while rows < _SAMPLE_CIPHERTEXTS:
        rows += encrypt_shard(task).shape[0]
    clocks.append((time.perf_counter(), time.process_time()))
    (build_s, build_core_s), (work_s, work_core_s) = np.diff(clocks, axis=0)
    return began, imports_core_s, build_s, build_core_s, work_s / rows, work_core_s / rows


def encryption_step(job: Job) -> Step:
    """Predict encryption: start of the workers, their tables, then shards in turn."""
    plan, workers = job.plan, min(job.executor.workers, job.plan.num_shards)
    per_worker = -(-plan.num_shards // job.executor.workers)
    rows = plan.packing.rows(plan.images_per_shard)
    encryption = Encryption(job.kind, plan, job.private_key.public, job.obfuscator, job.executor.table_bytes, per_worker * rows)
    num_images = max(min(plan.images_per_shard, plan.images_per_shard * _SAMPLE_CIPHERTEXTS // rows), 1)
    images = np.random.default_rng(0).integers(0, 256, (num_images, plan.source.height, plan.source.width), np.uint8)
    with tempfile.TemporaryDirectory(prefix="ppdl-estimate-") as folder:
        tasks = [ShardTask(encryption, Path(folder) / shard_name(job.kind, i), 0, images) for i in range(workers)]
        start = time.time()
        samples = list(job.executor.map_unordered(_encrypt_sample, tasks))
    drop_tables()
    began, start_core_s, build_s, build_core_s, wall_s, core_s = np.mean(samples, axis=0).tolist()
    work_s = wall_s * plan.num_ciphertexts / plan.num_shards * per_worker
    start_core_s = start_core_s if job.executor.workers > 1 else 0.0  # a single worker is this process, which runs already
    return Step(
        "encrypt",
        wall_s=began - start + build_s + work_s,
        core_s=workers * (start_core_s + build_core_s) + core_s * plan.num_ciphertexts,
        bytes=plan.total_bytes,
        detail=f"{core_s * 1e3:.3f} ms a ciphertext and core, {build_s:.1f} s for tables, {workers} workers, {job.obfuscator}",
    )


def decryption_step(job: Job) -> Step:
    """Predict decryption of every ciphertext, in as many threads as encryption has workers."""
    threads, public = job.executor.threads, job.private_key.public
    decrypt_batch(job.private_key, any_ciphertexts(public, 8))  # what happens once: compilation, constants
    wall_s, core_s, count = 0.0, 0.0, 4 * threads
    while wall_s < _SAMPLE_S:  # the last call counts: small ones are dearer than those of a run
        count *= 2
        rows = any_ciphertexts(public, count)
        start, core_start = time.perf_counter(), time.process_time()
        decrypt_batch(job.private_key, rows, num_threads=threads)
        wall_s, core_s = time.perf_counter() - start, time.process_time() - core_start
    scale = job.plan.num_ciphertexts / count
    detail = f"{core_s / count * 1e3:.3f} ms a ciphertext and core, {threads} threads"
    source = job.plan.source
    return Step("decrypt", wall_s * scale, core_s * scale, source.num_images * source.height * source.width, detail)


def any_ciphertexts(public_key: PublicKey, *shape: int) -> np.ndarray:
    """Draw numbers below n^2, uint8 (*shape, ciphertext_bytes): units as good as surely, and any of them costs the same."""
    rows = np.random.default_rng(0).integers(0, 256, (*shape, public_key.ciphertext_bytes), np.uint8)
    rows[..., 0], rows[..., -1] = 0, 1
    return rows
