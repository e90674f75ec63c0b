import os
import socket
import subprocess
import sys

import pytest

from ppdl.tracking.runs.provenance import PROCESS, dvc_tags, git_tags, machine_tags, process_is_alive

LOCK = """\
schema: '2.0'
stages:
  split:
    deps:
    - {path: data/raw, hash: md5, md5: 11.dir, size: 9}
    outs:
    - {path: data/prepared, hash: md5, md5: new.dir, size: 9}
  train_plain:
    deps:
    - {path: data/prepared, hash: md5, md5: stale.dir, size: 9}
    - {path: ppdl/training, hash: md5, md5: 22.dir, size: 9}
"""


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "dvc.lock").write_text(LOCK)
    git("add", ".")
    git("commit", "-q", "-m", "first")
    return tmp_path, git("rev-parse", "HEAD").strip()


def test_commit_of_a_clean_checkout(repository):
    root, commit = repository
    assert git_tags(root) == {"git.commit": commit, "git.dirty": "false", "mlflow.source.git.commit": commit}


@pytest.mark.parametrize(
    ("path", "dirty"),
    [("conf/config.yaml", "true"), ("conf/protection.yaml", "true"), ("dvc.lock", "false"), ("notes.txt", "false")],
)
def test_only_code_and_configuration_make_a_checkout_dirty(repository, path, dirty):
    root, _ = repository
    (root / path).write_text("changed\n")
    assert git_tags(root)["git.dirty"] == dirty


def test_outside_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_tags(tmp_path) == {}
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert git_tags(tmp_path) == {}


def test_hashes_of_outputs_win_over_those_that_a_stage_saw_last_time(repository, monkeypatch):
    root, _ = repository
    monkeypatch.setenv("DVC_STAGE", "train_encrypted@opaque")
    monkeypatch.setenv("DVC_EXP_NAME", "tidy-owl")
    assert dvc_tags(root, ["data/prepared", "data/raw", "ppdl/training", "unknown"]) == {
        "dvc.stage": "train_encrypted@opaque",
        "dvc.experiment": "tidy-owl",
        "dvc.md5.data/prepared": "new.dir",
        "dvc.md5.data/raw": "11.dir",
        "dvc.md5.ppdl/training": "22.dir",
    }


@pytest.mark.parametrize("text", [None, "stages: [1, 2", "- a\n- b\n", ""])
def test_without_a_usable_lock_there_are_no_hashes(tmp_path, monkeypatch, text):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    if text is not None:
        (tmp_path / "dvc.lock").write_text(text)
    assert dvc_tags(tmp_path, ["data/prepared"]) == {}


def test_this_process_is_alive():
    tags = machine_tags()
    assert tags["python.version"] == ".".join(map(str, sys.version_info[:3]))
    assert process_is_alive(tags[PROCESS]) is True


def test_a_process_that_ended_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert process_is_alive(f"{socket.gethostname()}:{child.pid}:1") is False


def test_a_reused_process_id_is_not_alive():
    assert process_is_alive(f"{socket.gethostname()}:{os.getpid()}:1000") is False


@pytest.mark.parametrize("tag", ["", "other-host:1:1", "nonsense", f"{socket.gethostname()}:x:1"])
def test_nothing_is_known_of_processes_elsewhere(tag):
    assert process_is_alive(tag) is None
