"""Predict what encrypting and decrypting images costs on this machine, from a few seconds of the real work.

A step is measured by doing a small part of it as a run would do it: in as many workers at once, with tables of the same
size, shards of the same shape. What is left to arithmetic is the number of ciphertexts, which a `Plan` knows exactly.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppdl.crypto.ciphertexts import Encryption, ShardTask, drop_tables, encrypt_shard
from ppdl.crypto.fields import Source
from ppdl.crypto.header import shard_name
from ppdl.crypto.keys import PrivateKey
from ppdl.crypto.paillier import BATCH_CIPHERTEXTS, decrypt_batch
from ppdl.crypto.parallel import Executor
from ppdl.crypto.plan import Plan, plan_packing


@dataclass(frozen=True)
class Job:
    """Describe the artifact whose cost is asked for, and the work that may be spent on measuring.

    Args:
        private_key: a pair of the key length; any will do, since cost depends on the length alone.
        sample_ciphertexts: how many a worker encrypts to measure. A full batch (BATCH_CIPHERTEXTS) measures best.
    """

    kind: str
    plan: Plan
    private_key: PrivateKey
    obfuscator: str
    executor: Executor
    sample_ciphertexts: int = BATCH_CIPHERTEXTS


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
    sample_ciphertexts: int = BATCH_CIPHERTEXTS,
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
    return Job(kind, plan, private_key, obfuscator, executor, sample_ciphertexts)


def estimate(job: Job) -> Iterator[Step]:
    """Measure and predict each step of `STEPS`, one after the other.

    Cost: for encryption the obfuscator tables and a batch in each worker, for decryption about a second.
    """
    return (step(job) for step in STEPS)


@dataclass(frozen=True)
class _Sample:
    """What one worker measured: when it began (time.time), building tables, then wall and CPU time a ciphertext."""

    began: float
    build_s: float
    wall_s: float
    core_s: float


@dataclass(frozen=True)
class _SampleTask:
    shard: ShardTask
    num_ciphertexts: int


def _encrypt_sample(sample: _SampleTask) -> _Sample:
    """Encrypt and write a shard as a run would (in a worker), after the tables were built; again until there are enough ciphertexts."""
    began, task = time.time(), sample.shard
    start = time.perf_counter()
    task.encryption.encrypt(task.images[:0])  # no images: tables alone
    build_s = time.perf_counter() - start
    start, core_start, rows = time.perf_counter(), time.process_time(), 0
    while rows < sample.num_ciphertexts:
        rows += encrypt_shard(task).shape[0]
    return _Sample(began, build_s, (time.perf_counter() - start) / rows, (time.process_time() - core_start) / rows)


def encryption_step(job: Job) -> Step:
    """Predict encryption: start of the workers, their tables, then shards in turn."""
    plan, workers = job.plan, min(job.executor.workers, job.plan.num_shards)
    per_worker = -(-plan.num_shards // job.executor.workers)
    rows = plan.packing.rows(plan.images_per_shard)
    encryption = Encryption(job.kind, plan, job.private_key.public, job.obfuscator, job.executor.table_bytes, per_worker * rows)
    num_images = max(min(plan.images_per_shard, plan.images_per_shard * job.sample_ciphertexts // rows), 1)
    shape = (num_images, plan.source.height, plan.source.width)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with tempfile.TemporaryDirectory(prefix="ppdl-estimate-") as folder:
        shards = [ShardTask(encryption, Path(folder) / shard_name(job.kind, i), 0, images) for i in range(workers)]
        tasks = [_SampleTask(shard, job.sample_ciphertexts) for shard in shards]
        start = time.time()
        samples = list(job.executor.map_unordered(_encrypt_sample, tasks))
    drop_tables()
    began, build_s, wall_s, core_s = np.mean([(s.began - start, s.build_s, s.wall_s, s.core_s) for s in samples], axis=0)
    work_s = wall_s * plan.num_ciphertexts / plan.num_shards * per_worker
    return Step(
        "encrypt",
        wall_s=float(began + build_s + work_s),
        core_s=float(workers * build_s + core_s * plan.num_ciphertexts),
        bytes=plan.total_bytes,
        detail=f"{core_s * 1e3:.3f} ms a ciphertext and core, {build_s:.1f} s for tables, {workers} workers, {job.obfuscator}",
    )


def decryption_step(job: Job) -> Step:
    """Predict decryption of every ciphertext, in as many threads as encryption has workers."""
    threads, public = job.executor.workers, job.private_key.public
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (8 * threads, public.ciphertext_bytes), np.uint8)  # any unit below n^2 costs the same
    rows[:, 0], rows[:, -1] = 0, 1
    wall_s, core_s, count = 0.0, 0.0, 0
    while wall_s < 1.0:
        start, core_start = time.perf_counter(), time.process_time()
        decrypt_batch(job.private_key, rows, num_threads=threads)
        wall_s += time.perf_counter() - start
        core_s += time.process_time() - core_start
        count += len(rows)
    scale = job.plan.num_ciphertexts / count
    detail = f"{core_s / count * 1e3:.3f} ms a ciphertext and core, {threads} threads"
    source = job.plan.source
    return Step("decrypt", wall_s * scale, core_s * scale, source.num_images * source.height * source.width, detail)


STEPS: tuple[Callable[[Job], Step], ...] = (encryption_step, decryption_step)
