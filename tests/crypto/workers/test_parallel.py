"""Workers: their number, their memory, and that Ctrl-C and errors end them."""

import hashlib
import os
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import psutil
import pytest
import yaml

from ppdl.config.components import construct
from ppdl.crypto import decrypt
from ppdl.crypto.encryption import ciphertexts, codebook
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.workers.parallel import Executor
from ppdl.errors import ConfigError
from tests.crypto.artifacts import random_images, write

FIELDS = {"num_workers": 2, "shard_mib": 8, "min_shards": 4, "table_mib": 8}


def executor(**changes):
    return Executor(**FIELDS | changes)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_workers", 0, r"executor\.num_workers: must be >= 1, got 0"),
        ("num_workers", 1.5, r"executor\.num_workers: must be an integer, got 1\.5"),
        ("num_workers", "all", r"executor\.num_workers: must be an integer, got 'all'"),
        ("shard_mib", 0, r"executor\.shard_mib: must be > 0, got 0"),
        ("shard_mib", "8", r"executor\.shard_mib: must be a number, got '8'"),
        ("shard_mib", float("nan"), r"executor\.shard_mib: must be a finite number, got nan"),
        ("shard_mib", float("inf"), r"executor\.shard_mib: must be a finite number, got inf"),
        ("min_shards", 0, r"executor\.min_shards: must be >= 1, got 0"),
        ("min_shards", None, r"executor\.min_shards: must be an integer, got None"),
        ("table_mib", -1, r"executor\.table_mib: must be > 0, got -1"),
        ("table_mib", None, r"executor\.table_mib: must be a number, got None"),
    ],
)
def test_parameters_are_checked(field, value, message):
    with pytest.raises(ConfigError, match=message):
        construct(Executor, FIELDS | {field: value}, "executor")


def test_all_cores_unless_told():
    assert executor(num_workers=None).workers == joblib.cpu_count()
    assert executor(num_workers=3).workers == executor(num_workers=3).threads == 3


def test_tables_share_their_budget():
    assert executor(num_workers=4, table_mib=8).table_bytes == 2 * 2**20


def pid_and_square(number):
    return os.getpid(), number * number


def test_workers_are_other_processes_and_end():
    results = list(executor().map_unordered(pid_and_square, range(6)))
    assert sorted(square for _, square in results) == [0, 1, 4, 9, 16, 25]
    pids = {pid for pid, _ in results}
    assert os.getpid() not in pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


def wait_for(task):
    path, pixels = task
    deadline = time.monotonic() + 30
    while path and not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path, isinstance(pixels, np.memmap)


def test_a_result_comes_when_its_own_task_is_done_and_no_image_is_written_to_a_file(tmp_path):
    """What came is what an interrupt does not lose; joblib would hand large arrays to workers as files."""
    go, pixels = tmp_path / "go", np.zeros(2**21, np.uint8)
    results = executor().map_unordered(wait_for, [(None, pixels), *[(go, pixels)] * 3])
    assert next(results) == (None, False)
    go.touch()
    assert list(results) == [(go, False)] * 3


def test_one_worker_is_this_process():
    assert {pid for pid, _ in executor(num_workers=1).map_unordered(pid_and_square, range(3))} == {os.getpid()}


def fail(number):
    raise ConfigError(f"task {number} is wrong")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_in_a_worker_is_the_callers(num_workers):
    with pytest.raises(ConfigError, match=r"task \d is wrong"):
        list(executor(num_workers=num_workers).map_unordered(fail, range(3)))
    assert not [child for child in psutil.Process().children() if "LokyProcess" in " ".join(child.cmdline())]


@pytest.mark.filterwarnings("ignore:.*have been cancelled:UserWarning")
def test_tasks_are_made_when_they_are_needed():
    """So that memory does not grow with the number of shards."""
    made = []

    def tasks():
        for number in range(40):
            made.append(number)
            yield number

    results = executor().map_unordered(pid_and_square, tasks())
    next(results)
    assert len(made) < 20
    results.close()


def test_tables_are_built_once_and_freed(tmp_path, monkeypatch):
    built = []
    original = ciphertexts.build_obfuscators
    monkeypatch.setattr(ciphertexts, "build_obfuscators", lambda *args, **options: built.append(options) or original(*args, **options))
    public = generate_keypair(256, allow_insecure_key=True).public
    write(tmp_path, "dense", random_images(8), public, executor=executor(num_workers=1))
    assert built == [{"table_bytes": 8 * 2**20, "num_ciphertexts": 4 * 7}]
    assert ciphertexts._obfuscators.cache_info().currsize == 0


class Noted(np.ndarray):
    """Images that note how many are read at a time."""

    def __getitem__(self, rows):
        found = super().__getitem__(rows)
        noted.append(len(found))
        return found


noted: list[int] = []


@pytest.mark.parametrize(("block_bytes", "num_images"), [(None, 11), (2 * 96 + 1, 2), (96, 1), (50, 1)])
def test_blocks_are_whole_images_as_many_as_fit(tmp_path, monkeypatch, block_bytes, num_images):
    """One where none fits; as shipped (None), a small set is one block."""
    if block_bytes:
        for module, name in ((ciphertexts, "_HASH_BLOCK_BYTES"), (codebook, "_BLOCK_BYTES"), (decrypt, "_BLOCK_BYTES")):
            monkeypatch.setattr(module, name, block_bytes)
    expected = [min(num_images, 11 - first) for first in range(0, 11, num_images)]
    check_blocks(tmp_path, random_images(11), expected, expected, expected)


def test_blocks_as_shipped_are_some_mib(tmp_path):
    images = np.zeros((17, 512, 2048), np.uint8)
    check_blocks(tmp_path, images, [16, 1], [4, 4, 4, 4, 1], [16, 1])


def check_blocks(folder, images, hashed, encrypted, decrypted):
    noted.clear()
    assert ciphertexts.hash_images(images.view(Noted)) == hashlib.sha256(images).digest()
    assert noted == hashed
    noted.clear()
    key = generate_keypair(256, allow_insecure_key=True)
    artifact = write(folder, "codebook", images.view(Noted), key.public)
    assert noted == [len(images), *encrypted]  # the one shard, then its blocks
    blocks = [block for _, block in decrypt.decrypt_images(artifact, key)]
    assert np.array_equal(np.concatenate(blocks), images) and list(map(len, blocks)) == decrypted


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_conf_file_builds_it_and_the_command_line_agrees():
    from ppdl.cli.estimate import estimate

    conf = yaml.safe_load((Path(__file__).parents[3] / "conf/executor/local.yaml").read_text())
    assert conf.pop("_target_") == "ppdl.crypto.workers.parallel.Executor"
    assert Executor(**conf).workers >= 1
    assert conf.pop("num_workers") is None
    defaults = {option.name: option.default for option in estimate.params}
    assert {name: defaults[name] for name in conf} == conf
