"""Full disks, missing permissions, a clock that jumps, two processes at once: each has one stated outcome (docs/reliability.md)."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import load_private, save_private
from ppdl.datasets.sources.phantom import Phantom
from ppdl.errors import KeyStoreError
from ppdl.records.atomic import replacing
from ppdl.tracking import open_store, start_training_run
from ppdl.tracking.runs.provenance import PROCESS, process_is_alive
from ppdl.tracking.runs.spec import RunSpec
from ppdl.training.fitting.state import State, read_state, write_state
from tests.crypto.artifacts import decrypted, random_images
from tests.crypto.artifacts import write as write_artifact
from tests.protections.conftest import Chain

SMALL_BYTES = 96 * 1024
root_only = pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting a small file system needs root on Linux")
not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


@pytest.fixture(scope="module")
def key():
    return generate_keypair(256, allow_insecure_key=True)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 96 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES},mode=0700", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a container without the right to mount: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # memory maps of a test may still be open


@pytest.fixture
def read_only_disk(small_disk):
    """A real file system that is mounted read-only."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    return small_disk


def fill(folder: Path, leave: int) -> Path:
    """Fill a disk up to some bytes, and return the file that does it."""
    path = folder / "ballast"
    path.write_bytes(bytes(SMALL_BYTES - leave))
    return path


@root_only
@pytest.mark.parametrize("kind", ["codebook", "dense", "slots"])
def test_a_full_disk_ends_encryption_with_its_name_and_what_was_done_is_kept(key, small_disk, kind):
    images = random_images(160, 16, 16)
    ballast = fill(small_disk, leave=40 * 1024)
    with pytest.raises(OSError) as caught:
        write_artifact(small_disk, kind, images, key.public)
    assert caught.value.errno == errno.ENOSPC
    assert not (small_disk / "artifact").exists(), "half an artifact looks like a whole one"
    ballast.unlink()
    kept = {path.name for path in (small_disk / "partial/artifact").glob("ciphertexts-*.npy")}
    assert kept or kind != "dense", "no shard was finished before the disk was full"
    fewer = images[:40]
    artifact = write_artifact(small_disk, kind, fewer, key.public)
    artifact.verify(key.public)
    assert np.array_equal(decrypted(artifact, key), fewer)
    assert not (small_disk / "partial").exists() and not list(small_disk.rglob("*.tmp"))


@root_only
def test_a_full_disk_leaves_no_half_private_key_and_no_half_file(key, small_disk):
    ballast = fill(small_disk, leave=0)
    with pytest.raises(KeyStoreError, match=r"cannot write this key file \(No space left on device\)"):
        save_private(small_disk / ".", key)
    with pytest.raises(OSError, match="No space left"), replacing(small_disk / "index.csv") as path:
        path.write_bytes(bytes(8192))
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    ballast.unlink()
    assert load_private(save_private(small_disk / ".", key)).p == key.p


@root_only
def test_a_full_disk_keeps_the_state_of_a_training_as_it_was(small_disk):
    weights = [np.zeros(1000, np.float32)]
    write_state(small_disk / "state", "d", State([{"epoch": 0}], 0, weights, weights, weights, 1.0))
    fill(small_disk, leave=32 * 1024)
    with pytest.raises(OSError, match="No space left"):
        write_state(small_disk / "state", "d", State([{"epoch": 1}], 1, [np.zeros(10**4, np.float32)], weights, weights, 2.0))
    assert read_state(small_disk / "state", "d").history == [{"epoch": 0}]


@root_only
def test_a_full_disk_ends_the_reveal_before_anything_is_in_its_place(small_disk, tmp_path, key):
    chain = Chain(tmp_path, random_images(400, 16, 16), key)
    chain.encrypt()
    chain.filter()
    with pytest.raises(OSError) as caught:
        chain.decrypt(name="small/revealed", partial_dir=small_disk / "partial")
    assert caught.value.errno == errno.ENOSPC
    assert not (small_disk / "revealed").exists()


@root_only
def test_a_read_only_disk_is_named(key, read_only_disk):
    for action in (
        lambda: write_artifact(read_only_disk, "dense", random_images(), key.public),
        lambda: Phantom(classes=None, on_bad_image="raise", num_images=12, images_per_patient=1, size_px=32, seed=1).write_raw(
            read_only_disk / "raw"
        ),
    ):
        with pytest.raises(OSError) as caught:
            action()
        assert caught.value.errno == errno.EROFS and str(read_only_disk) in str(caught.value)


@not_root
def test_a_folder_without_permission_is_named(key, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(PermissionError, match=str(closed)):
        write_artifact(closed, "dense", random_images(), key.public)
    with pytest.raises(KeyStoreError, match="Permission denied"):
        save_private(closed, key)


AS_NOBODY = """
import os, sys
from pathlib import Path
from ppdl.crypto.keys.keystore import load_private, load_public
from ppdl.errors import PpdlError
os.setgroups([]); os.setgid(65534); os.setuid(65534)  # after the imports: the interpreter may lie in root's own folder
path, folder = map(Path, sys.argv[1:])
for action in (lambda: load_private(path), lambda: load_public(folder / "public.json"), lambda: (folder / "new").mkdir()):
    try:
        action()
        print("done")
    except PpdlError as error:
        print("refused:", error)
    except OSError as error:
        print("system:", error)
"""


@root_only
def test_another_user_reads_no_private_key_and_is_told_so(key):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o755)
        path = save_private(Path(folder) / "private", key)
        command = [sys.executable, "-c", AS_NOBODY, path, folder]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first.startswith(f"refused: {path}: cannot read this key file (Permission denied)")
    assert "public.json: cannot read this key file (No such file or directory)" in second
    assert third.startswith("system:") and "Permission denied" in third
    assert str(key.p) not in done.stdout + done.stderr


def spec(name: str = "plain") -> RunSpec:
    from ppdl.tracking import DatasetRecord

    data = DatasetRecord("phantom", "cd" * 32, "data/prepared", {"train": 7})
    return RunSpec(
        name=name,
        stage="stages.train_plain",
        config={"seed": 1},
        protection="plain",
        view="pixels",
        confidential=False,
        key_fingerprint=None,
        dataset=data,
        inputs=(),
        description="a test",
    )


@pytest.mark.parametrize("jump_s", [-86_400 * 365, 86_400 * 365])
def test_a_clock_that_jumps_loses_no_metric_and_ends_the_run(tmp_path, monkeypatch, jump_s):
    """The wall clock is read in one place, `now_ms`; durations come from time.perf_counter, which no clock setting moves."""
    real = time.time_ns
    with start_training_run(spec(), store_root=tmp_path, project=tmp_path, experiment="ppdl") as run:
        run.log_epoch(0, {"loss": 2.0})
        monkeypatch.setattr(time, "time_ns", lambda: real() + jump_s * 10**9)
        run.log_epoch(1, {"loss": 1.0})
        run.write_record(tmp_path / "run.json")
    store = open_store(tmp_path, "ppdl")
    found = store.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert {(m.step, m.value) for m in store.client.get_metric_history(run.run_id, "train/loss")} == {(0, 2.0), (1, 1.0)}


def test_a_jump_of_the_clock_makes_no_living_run_look_dead(monkeypatch):
    """The tag of a run holds the start of its process, which Linux computes from the boot time and a set clock moves by seconds."""
    import psutil

    process = psutil.Process()
    tag = f"{os.uname().nodename}:{process.pid}:{process.create_time() + 30:.0f}"
    assert process_is_alive(tag) is True
    assert PROCESS == "process"


def test_no_duration_is_measured_by_the_wall_clock():
    """time.time() jumps with the clock. Allowed are recorded points in time, and predictions, which compare the clocks of processes."""
    package = Path(__file__).parents[2] / "ppdl"
    uses = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if re.search(r"\btime\.time(_ns)?\(", path.read_text())}
    allowed = {"tracking/store.py", "serving/server/store.py", "crypto/estimate/images.py", "crypto/estimate/stem.py"}
    assert uses <= allowed, f"read the clock through tracking.store.now_ms, or measure with perf_counter: {uses - allowed}"


SWEEP_JOB = """
import sys
from pathlib import Path
from ppdl.tracking import start_training_run
from tests.faults.test_faults import spec
root, sweep, jobs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for i in range(jobs):
    with start_training_run(spec(f"{sweep}-{i}"), store_root=root, project=root, experiment="ppdl") as run:
        for epoch in range(5):
            run.log_epoch(epoch, {"loss": float(epoch)})
"""


def test_two_sweeps_at_once_on_one_sqlite_store_lose_nothing(tmp_path):
    project = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(project)}
    env.pop("MLFLOW_TRACKING_URI", None)

    def sweep(name: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", SWEEP_JOB, tmp_path, name, "3"], cwd=project, env=env, capture_output=True, text=True, timeout=240
        )

    with ThreadPoolExecutor() as pool:
        done = list(pool.map(sweep, ["a", "b"]))
    assert [d.returncode for d in done] == [0, 0], done[0].stderr[-2000:] + done[1].stderr[-2000:]
    assert not any("not logged" in d.stderr for d in done)
    store = open_store(tmp_path, "ppdl")
    runs = store.client.search_runs([store.experiment_id])
    assert sorted(run.info.run_name for run in runs) == [f"{s}-{i}" for s in "ab" for i in range(3)]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(len(store.client.get_metric_history(run.info.run_id, "train/loss")) == 5 for run in runs)


KEY_WRITER = """
import sys, os, signal
from pathlib import Path
from ppdl.crypto.keys import keyfile
from ppdl.crypto.keys.keypair import generate_keypair
if sys.argv[2] == "before the link":
    keyfile.os.link = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
else:
    real = keyfile.os.link
    def link(*a, **k):
        real(*a, **k)
        os.kill(os.getpid(), signal.SIGKILL)
    keyfile.os.link = link
keyfile.save_private(Path(sys.argv[1]), generate_keypair(256, allow_insecure_key=True))
"""


@pytest.mark.parametrize("moment", ["before the link", "after the link"])
def test_a_private_key_that_a_killed_process_was_writing_is_removed_by_the_next(key, tmp_path, moment):
    folder = tmp_path / "private"
    done = subprocess.run([sys.executable, "-c", KEY_WRITER, folder, moment], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    left = [path.name for path in folder.iterdir()]
    assert any(name.endswith(".tmp") for name in left)
    whole = [name for name in left if name.endswith(".json")]
    path = save_private(folder, key)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*whole, path.name])
    assert len(whole) == (moment == "after the link")
    for name in whole:
        assert load_private(folder / name).public.fingerprint == name.removesuffix(".json")
