"""Predictions: what is exact, and what is measured. How near measured figures come to a real run: benchmarks/estimate.py."""

import numpy as np
import pytest

from ppdl.crypto.encryption import ciphertexts
from ppdl.crypto.estimate import images as estimate
from ppdl.crypto.estimate.images import decryption_step, encryption_step, plan_job
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.workers.parallel import Executor
from tests.crypto.artifacts import PACKINGS, write

EXECUTOR = Executor(num_workers=1, shard_mib=8, min_shards=4, table_mib=1)


@pytest.fixture(scope="module")
def key():
    return generate_keypair(256, allow_insecure_key=True)


def job(key, num_images=50, px=12, kind="dense", executor=EXECUTOR):
    packing = PACKINGS[kind] or {"stride": 1, "slot_bits": 8}
    return plan_job(num_images, px, key, kind=kind, obfuscator="djn", executor=executor, **packing)


@pytest.fixture(autouse=True)
def small_sample(monkeypatch):
    monkeypatch.setattr(estimate, "_SAMPLE_CIPHERTEXTS", 50)


@pytest.mark.parametrize("kind", PACKINGS)
def test_counts_and_bytes_are_exact(key, tmp_path, kind):
    planned = job(key, kind=kind)
    header = write(tmp_path, kind, np.zeros((50, 12, 12), np.uint8), key.public, executor=EXECUTOR).header
    assert planned.plan.num_ciphertexts == header.num_ciphertexts
    assert planned.plan.num_shards == len(header.shards)
    assert encryption_step(planned).bytes == header.total_bytes
    assert decryption_step(planned).bytes == 50 * 12 * 12


def fake_clock(monkeypatch, s_per_ciphertext=0.01, build_s=2.0):
    """Let ciphertexts and tables take made-up time, so that the arithmetic can be checked exactly."""
    now = [5.0]  # CPU time of this process when it begins

    class Clock:
        time = perf_counter = process_time = staticmethod(lambda: now[0])

    original = ciphertexts.encrypt_batch

    def encrypt(public_key, plaintexts, source):
        plaintexts = list(plaintexts)
        now[0] += s_per_ciphertext * len(plaintexts) if plaintexts else build_s
        return original(public_key, plaintexts, source)

    monkeypatch.setattr(estimate, "time", Clock)
    monkeypatch.setattr(ciphertexts, "encrypt_batch", encrypt)


def test_encryption_is_tables_and_shards(key, monkeypatch):
    fake_clock(monkeypatch)
    planned = job(key, num_images=80)
    step = encryption_step(planned)
    assert step.wall_s == pytest.approx(2 + 0.01 * planned.plan.num_ciphertexts)
    assert step.core_s == pytest.approx(step.wall_s)
    assert step.detail == "10.000 ms a ciphertext and core, 2.0 s for tables, 1 workers, djn"


def test_the_last_round_of_shards_counts_whole(key, monkeypatch):
    """Five shards on two workers take as long as three on one."""
    fake_clock(monkeypatch)

    class InTurn(Executor):
        def map_unordered(self, function, tasks):
            return map(function, tasks)

    planned = job(key, num_images=50, executor=InTurn(num_workers=2, shard_mib=8, min_shards=5, table_mib=1))
    assert planned.plan.num_shards == 5
    step = encryption_step(planned)
    rows = planned.plan.packing.rows(10)
    began_s = (2 + 0.01 * (-(-50 // rows) * rows)) / 2  # in turn: the second worker begins when the first has ended; the mean of both
    assert step.wall_s == pytest.approx(began_s + 2 + 0.01 * 3 * rows)
    start_core_s = 5 + began_s  # of each worker: what its process took until it began
    assert step.core_s == pytest.approx(2 * (start_core_s + 2) + 0.01 * planned.plan.num_ciphertexts)
    assert step.detail == "10.000 ms a ciphertext and core, 2.0 s for tables, 2 workers, djn"


@pytest.mark.parametrize(("sample_ciphertexts", "encrypted"), [(1, 5), (50, 2 * 47), (93, 93), (94, 2 * 93)])
def test_no_more_is_measured_than_a_sample_needs(key, monkeypatch, sample_ciphertexts, encrypted):
    """A shard of 20 images is 93 ciphertexts; the part of it that the sample needs, one image at least, until there are enough."""
    counted, original = [], ciphertexts.encrypt_batch
    monkeypatch.setattr(ciphertexts, "encrypt_batch", lambda *arguments: counted.append(len(arguments[1])) or original(*arguments))
    monkeypatch.setattr(estimate, "_SAMPLE_CIPHERTEXTS", sample_ciphertexts)
    encryption_step(job(key, num_images=80))
    assert sum(counted) == encrypted


def test_decryption_is_proportional(key, monkeypatch):
    now = [0.0]

    class Clock:
        perf_counter = staticmethod(lambda: now[0])
        process_time = staticmethod(lambda: 3 * now[0])

    calls = []

    def decrypt(private_key, rows, *, num_threads=1):
        assert not rows[:, 0].any() and rows[:, 1:-1].any(axis=0).all() and (rows[:, -1] == 1).all()  # long, below n^2, and units
        calls.append((num_threads, rows.shape))
        now[0] += 7.0 if len(calls) == 1 else 0.001 + 0.004 * len(rows)  # the first compiles, and small calls are dear

    monkeypatch.setattr(estimate, "time", Clock)
    monkeypatch.setattr(estimate, "decrypt_batch", decrypt)
    planned = job(key, executor=Executor(3, 8, 4, 1))
    step = decryption_step(planned)
    assert calls == [(1, (8, 64)), (3, (24, 64)), (3, (48, 64)), (3, (96, 64)), (3, (192, 64))]  # the last takes half a second and more
    assert step.wall_s == pytest.approx(0.769 / 192 * planned.plan.num_ciphertexts)
    assert step.core_s == pytest.approx(3 * step.wall_s)
    assert step.detail == "12.016 ms a ciphertext and core, 3 threads"


def test_each_step_takes_time_on_real_workers(key):
    steps = list(estimate.estimate(job(key, executor=Executor(2, 8, 4, 1))))
    assert [step.name for step in steps] == ["encrypt", "decrypt"]
    assert all(step.wall_s > 0 and step.core_s > 0 for step in steps)
    assert ciphertexts._obfuscators.cache_info().currsize == 0
