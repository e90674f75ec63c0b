"""An interrupted run goes on where it stopped, with fresh randomness, and only with the same plan."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from ppdl.crypto.artifact.fields import Protection
from ppdl.crypto.encryption import ciphertexts
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import save_public
from ppdl.errors import ArtifactError
from tests.crypto.artifacts import ONE_WORKER, decrypted, random_images, write

IMAGES = random_images(16)


@pytest.fixture(scope="module")
def key():
    return generate_keypair(256, allow_insecure_key=True)


@pytest.fixture
def interrupt(monkeypatch):
    """Make the third shard of a run fail; undone by calling what this gives."""
    original, calls = ciphertexts.encrypt_shard, []

    def failing(task):
        calls.append(task.path.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(task)

    monkeypatch.setattr(ciphertexts, "encrypt_shard", failing)
    return monkeypatch.undo


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npy"))}


def test_finished_shards_are_kept(key, tmp_path, interrupt, caplog, capsys):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "dense", IMAGES, key.public)
    kept = shards(tmp_path / "partial/artifact")
    assert len(kept) == 2
    assert not (tmp_path / "artifact").exists()
    interrupt()
    with caplog.at_level(logging.INFO):
        artifact = write(tmp_path, "dense", IMAGES, key.public, progress=True)
    assert "goes on after 2 finished shards" in caplog.text
    shown = capsys.readouterr().err
    assert " 768/1.54k " in shown and " 1.54k/1.54k " in shown  # pixels: of the shards that are there, and of all
    final = shards(tmp_path / "artifact")
    assert kept.items() <= final.items()
    assert len(final) == 4
    artifact.verify(key.public)
    assert np.array_equal(decrypted(artifact, key), IMAGES)
    assert not (tmp_path / "partial").exists()


def test_a_lost_shard_gets_fresh_obfuscators(key, tmp_path, interrupt):
    """Written, but not noted before the run was killed: encrypted again, with nothing of the first time."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "dense", IMAGES, key.public)
    lines = (tmp_path / "partial/records.jsonl").read_text().splitlines()
    (tmp_path / "partial/records.jsonl").write_text(lines[0] + "\n" + lines[1][:40])
    first = np.load(tmp_path / "partial/artifact/ciphertexts-00001.npy")
    interrupt()
    artifact = write(tmp_path, "dense", IMAGES, key.public)
    second = np.load(tmp_path / "artifact/ciphertexts-00001.npy")
    assert not {row.tobytes() for row in first} & {row.tobytes() for row in second}
    n, n_squared = key.public.n, key.public.n_squared
    pairs = [[int.from_bytes(row.tobytes(), "big") for row in pair] for pair in zip(first, second, strict=True)]
    assert all(a * pow(b, -1, n_squared) % n != 1 for a, b in pairs)  # equal plaintexts, no common obfuscator
    assert np.array_equal(decrypted(artifact, key), IMAGES)


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_a_shard_whose_bytes_are_gone_is_written_again(key, tmp_path, interrupt, damage):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "dense", IMAGES, key.public)
    path = tmp_path / "partial/artifact/ciphertexts-00000.npy"
    data = path.read_bytes()
    changed = {"truncate": data[:-1], "flip": data[:-1] + bytes([data[-1] ^ 1])}
    path.unlink() if damage == "delete" else path.write_bytes(changed[damage])
    interrupt()
    artifact = write(tmp_path, "dense", IMAGES, key.public)
    artifact.verify(key.public)
    assert np.array_equal(decrypted(artifact, key), IMAGES)


OTHER_KEY = generate_keypair(256, allow_insecure_key=True).public
CHANGES = {
    "key": {"public_key": OTHER_KEY},
    "protection": {"protection": Protection("test", {"input_px": 13})},
    "images": {"images": IMAGES ^ np.uint8(1)},
    "packing": {"images_per_group": 1},
    "kind, packing": {"kind": "slots"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_plan_starts_over_and_says_why(key, tmp_path, interrupt, caplog, name):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "dense", IMAGES, key.public)
    kept = shards(tmp_path / "partial/artifact")
    interrupt()
    arguments = {"kind": "dense", "images": IMAGES, "public_key": key.public} | CHANGES[name]
    write(tmp_path, **arguments).verify(arguments["public_key"])
    assert f"starts over, since the run before had another {name}" in caplog.text
    assert not set(kept.values()) & set(shards(tmp_path / "artifact").values())


def test_larger_shards_start_over(key, tmp_path, interrupt, caplog):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "dense", IMAGES, key.public)
    interrupt()
    artifact = write(tmp_path, "dense", IMAGES, key.public, executor=replace(ONE_WORKER, min_shards=2))
    assert "another packing" in caplog.text
    assert len(artifact.header.shards) == 2


def test_text_of_the_header_may_change(key, tmp_path, interrupt):
    """It does not decide what the shards hold."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "dense", IMAGES, key.public)
    kept = shards(tmp_path / "partial/artifact")
    interrupt()
    artifact = write(tmp_path, "dense", IMAGES, key.public, reason="better words", executor=replace(ONE_WORKER, num_workers=2))
    assert artifact.header.reason == "better words"
    assert kept.items() <= shards(tmp_path / "artifact").items()


def test_an_unreadable_plan_starts_over(key, tmp_path, interrupt, caplog):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "dense", IMAGES, key.public)
    (tmp_path / "partial/plan.json").write_text("{")
    interrupt()
    write(tmp_path, "dense", IMAGES, key.public).verify()
    assert "another plan (unreadable)" in caplog.text


PROGRAM = """
import sys
from ppdl.crypto.keys.keystore import load_public
from ppdl.crypto.workers.parallel import Executor
from tests.crypto.artifacts import random_images, write
from pathlib import Path
if __name__ == "__main__":
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    executor = Executor(workers, shard_mib=8, min_shards=40, table_mib=1)
    write(folder, "dense", random_images(8000, 16, 16), load_public(folder / "public.json"), executor=executor, obfuscator="standard")
"""


def heed_interrupts() -> None:
    """Undo what a shell does to jobs in the background: they, and so their children, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("workers", "signum"), [(2, signal.SIGINT), (1, signal.SIGKILL)])
def test_a_real_interrupt_leaves_a_state_to_go_on_from(tmp_path, workers, signum):
    key = generate_keypair(512, allow_insecure_key=True)
    save_public(tmp_path / "public.json", key.public)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path), str(workers)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, preexec_fn=heed_interrupts, stderr=subprocess.PIPE, text=True
    )
    records = tmp_path / "partial/records.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (records.is_file() and records.read_text().count("\n") >= 3):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    os.killpg(process.pid, signum)  # a terminal's Ctrl-C goes to the workers too
    message = process.communicate(timeout=30)[1]
    assert process.returncode == -signum
    assert message.count("Traceback") == (signum == signal.SIGINT)  # of this process alone, none of the workers
    noted = {json.loads(line)["file"] for line in records.read_text().splitlines()}
    kept = shards(tmp_path / "partial/artifact")
    assert 3 <= len(noted) < 40
    subprocess.run(command, env=environment, check=True, timeout=60)
    final = shards(tmp_path / "artifact")
    assert {name: kept[name] for name in noted}.items() <= final.items()
    assert len(final) == 40


def test_a_folder_in_use_is_refused(key, tmp_path):
    write(tmp_path, "dense", IMAGES, key.public)
    for kind in ("dense", "codebook"):
        with pytest.raises(ArtifactError, match="artifact: an artifact is written to a new or empty folder, found one in use; remove it"):
            write(tmp_path, kind, IMAGES, key.public)


def test_an_empty_folder_is_fine(key, tmp_path):
    (tmp_path / "artifact").mkdir()
    write(tmp_path, "dense", IMAGES, key.public).verify()


def test_missing_folders_are_made(key, tmp_path):
    write(tmp_path / "a/b", "dense", IMAGES, key.public, partial_dir=tmp_path / "c/d/partial").verify()
    assert list((tmp_path / "c/d").iterdir()) == []


def test_a_file_in_the_way_is_refused(key, tmp_path):
    (tmp_path / "artifact").write_text("x")
    with pytest.raises(ArtifactError, match="found one in use"):
        write(tmp_path, "dense", IMAGES, key.public)


def test_a_partial_folder_with_other_files_is_refused_and_left_alone(key, tmp_path):
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial/thesis.docx").write_text("x")
    with pytest.raises(ArtifactError, match=r"partial: must hold an unfinished artifact only, found 'thesis\.docx'; choose another"):
        write(tmp_path, "dense", IMAGES, key.public)
    assert (tmp_path / "partial/thesis.docx").read_text() == "x"


def test_a_partial_folder_that_is_a_file_is_refused(key, tmp_path):
    (tmp_path / "partial").write_text("x")
    with pytest.raises(ArtifactError, match="partial: must be a folder for the unfinished artifact, found a file"):
        write(tmp_path, "dense", IMAGES, key.public)


def test_a_second_writer_is_refused(key, tmp_path):
    (tmp_path / "partial").mkdir()
    with FileLock(tmp_path / "partial/lock"), pytest.raises(ArtifactError, match="another process writes this artifact now"):
        write(tmp_path, "dense", IMAGES, key.public)


@pytest.mark.parametrize("left", [False, True])
def test_another_file_system_gets_a_copy(key, tmp_path, monkeypatch, left):
    original = Path.replace

    def replace_within(self, target):
        if self.parent.name == "partial" and Path(target).name == "artifact":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace_within)
    if left:  # of a run that was killed while it copied
        (tmp_path / "artifact.copying").mkdir()
        (tmp_path / "artifact.copying/ciphertexts-00000.npy").write_text("half")
    artifact = write(tmp_path, "dense", IMAGES, key.public)
    artifact.verify(key.public)
    assert np.array_equal(decrypted(artifact, key), IMAGES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact"]
