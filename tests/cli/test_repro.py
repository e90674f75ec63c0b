"""`ppdl repro` on small pipelines of real DVC stages."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from ppdl.cli.repro import end_of, longest_chains, shared_cores

STAGE = """
import pathlib, signal, sys, time
name, *needed = sys.argv[1:]
assert all(pathlib.Path(n).exists() for n in needed)
if pathlib.Path("stubborn").exists():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
print("working\\r" + name + " at work", file=sys.stderr, flush=True)
print("found by " + name, flush=True)
until = time.monotonic() + 120
while not (pathlib.Path("go").exists() or pathlib.Path("go-" + name).exists()):
    assert time.monotonic() < until
    time.sleep(0.05)
if pathlib.Path("break-" + name).exists():
    sys.exit(name + " breaks")
pathlib.Path(name).write_text(name + "".join(pathlib.Path(n).read_text() for n in needed))
"""
NEEDS = {"first": [], "left": ["first"], "right": ["first"], "other": [], "last": ["left", "right", "other"]}


class Pipeline:
    """A DVC project whose stages wait for a file, `go` or `go-STAGE`."""

    def __init__(self, path: Path, *there: str) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        (path / "stage.py").write_text(STAGE)
        self.let(*there)
        stages = {
            name: {"cmd": f"{sys.executable} stage.py {' '.join([name, *n])}", "deps": n, "outs": [name]} for name, n in NEEDS.items()
        }
        (path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        (path / ".dvc").mkdir()
        (path / ".dvc/config").write_text("[core]\n    no_scm = True\n")  # all that `dvc init --no-scm` leaves that matters

    def let(self, *names: str) -> None:
        for name in names:
            (self.path / name).touch()

    def start(self, *command: str, cwd: str = "", on_hangup=signal.SIG_DFL) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.path / cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, on_hangup),  # ignored under nohup, the tests' own included
        )

    def run(self, *command: str, rc: int = 0, cwd: str = "") -> str:
        process = self.start(*command, cwd=cwd)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == rc, output
        return output

    def wait_until_at_work(self, *names: str) -> None:
        logs = [self.path / f".ppdl/repro/{name}.log" for name in names]
        wait_for(lambda: all(log.exists() and "at work" in log.read_text() for log in logs))

    def there(self) -> list[str]:
        return [name for name in NEEDS if (self.path / name).exists()]

    def made(self, name: str) -> int:
        return (self.path / name).stat().st_mtime_ns

    def lock(self) -> dict:
        return yaml.safe_load((self.path / "dvc.lock").read_text())


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def running(started: list[psutil.Process]) -> list[psutil.Process]:
    return [child for child in started if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_stages_run_side_by_side_and_dvc_has_nothing_left_to_do(tmp_path):
    pipeline = Pipeline(tmp_path)
    process = pipeline.start("ppdl", "repro", "--jobs", "2")
    pipeline.wait_until_at_work("first", "other")  # both wait, so they run side by side
    pipeline.let("go-first")
    pipeline.wait_until_at_work("left")
    assert pipeline.there() == ["first"] and not (tmp_path / ".ppdl/repro/right.log").exists()
    pipeline.let("go-other")
    pipeline.wait_until_at_work("right")
    pipeline.let("go")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "5 stages in" in output and all(f"found by {name}" in output for name in NEEDS)
    assert "at work" not in output and "Running stage" not in output and "dvc.lock" not in output
    assert max(map(pipeline.made, NEEDS)) == pipeline.made("last")
    assert "up to date" in pipeline.run("dvc", "repro")
    assert "up to date" in pipeline.run("ppdl", "repro")
    assert (tmp_path / ".ppdl/repro/left.log").read_text().count("left at work") == 1


def test_dvc_lock_and_cache_are_those_of_dvc_repro(tmp_path):
    ours, theirs = (Pipeline(tmp_path / name, "go") for name in ("ours", "theirs"))
    ours.run("ppdl", "repro")
    theirs.run("dvc", "repro")
    assert ours.lock() == theirs.lock() and len(ours.lock()["stages"]) == len(NEEDS)
    cached = [{str(path.relative_to(one.path)) for path in (one.path / ".dvc/cache/files").rglob("*")} for one in (ours, theirs)]
    assert cached[0] == cached[1]


def test_only_what_is_out_of_date_and_wanted_runs_and_a_frozen_stage_does_not_pull_in_what_it_needs(tmp_path):
    pipeline = Pipeline(tmp_path, "go")
    pipeline.run("ppdl", "repro", "left", "--jobs", "1")
    assert pipeline.there() == ["first", "left"]
    first = pipeline.made("first")
    assert "3 stages in" in pipeline.run("ppdl", "repro") and pipeline.made("first") == first
    (tmp_path / "other").unlink()
    pipeline.run("ppdl", "repro", "other")
    assert pipeline.there() == list(NEEDS)
    pipeline.run("dvc", "freeze", "left")
    (tmp_path / "first").unlink()
    assert "up to date" in pipeline.run("ppdl", "repro", "left") and not (tmp_path / "first").exists()


def test_it_runs_from_a_folder_within(tmp_path):
    pipeline = Pipeline(tmp_path, "go")
    (tmp_path / "within").mkdir()
    pipeline.run("ppdl", "repro", "other", cwd="within")
    assert pipeline.there() == ["other"] and (tmp_path / ".ppdl/repro/other.log").exists() and not [*(tmp_path / "within").iterdir()]


def test_a_failure_is_said_at_once_and_stops_what_follows(tmp_path):
    pipeline = Pipeline(tmp_path, "go-first", "go-left", "break-left")
    process = pipeline.start("ppdl", "repro")
    line = next(line for line in iter(process.stdout.readline, "") if "left failed" in line)
    assert "it ends when other has ended" in line and process.poll() is None and pipeline.there() == ["first"]
    pipeline.let("go")
    output = process.stdout.read()  # communicate would lose what readline took in with its line
    assert process.wait(60) == 1 and "left failed; 2 stages were not started" in output
    assert output.count("left breaks") == 1 and "found by left" in output  # what it found before it failed
    assert pipeline.there() == ["first", "other"]
    (tmp_path / "break-left").unlink()
    first = pipeline.made("first")
    pipeline.run("ppdl", "repro", "left")
    assert pipeline.made("first") == first and pipeline.there() == ["first", "left", "other"]


def test_of_two_failures_both_are_shown(tmp_path):
    pipeline = Pipeline(tmp_path, "break-first", "break-other")
    process = pipeline.start("ppdl", "repro")
    pipeline.wait_until_at_work("first", "other")
    pipeline.let("go")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and "first breaks" in output and "other breaks" in output


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_leaves_no_process_behind(tmp_path, sent):
    pipeline = Pipeline(tmp_path)
    process = pipeline.start("ppdl", "repro")
    pipeline.wait_until_at_work("first", "other")
    started = children(process)
    assert len(started) >= 4  # two DVCs, two stages
    process.send_signal(sent)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + sent and "interrupted" in output and "Traceback" not in output
    assert not running(started)
    if sent == signal.SIGINT:  # the others differ in nothing but the exit code
        pipeline.let("go")
        pipeline.run("ppdl", "repro", "first", "other")
        assert pipeline.there() == ["first", "other"]


def test_under_nohup_a_closed_terminal_interrupts_nothing(tmp_path):
    pipeline = Pipeline(tmp_path)
    process = pipeline.start("ppdl", "repro", "first", "other", on_hangup=signal.SIG_IGN)
    pipeline.wait_until_at_work("first", "other")
    process.send_signal(signal.SIGHUP)
    pipeline.let("go")
    process.communicate(timeout=60)
    assert process.returncode == 0 and pipeline.there() == ["first", "other"]


def test_a_second_interruption_kills(tmp_path):
    pipeline = Pipeline(tmp_path, "stubborn")
    process = pipeline.start("ppdl", "repro")
    pipeline.wait_until_at_work("first", "other")
    started = children(process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None and len(running(started)) >= 4
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    wait_for(lambda: not running(started))
    pipeline.let("go")
    pipeline.run("ppdl", "repro", "first", "other")
    assert pipeline.there() == ["first", "other"]


def test_when_nobody_reads_any_more_the_stages_end(tmp_path):
    pipeline = Pipeline(tmp_path)
    process = pipeline.start("ppdl", "repro")
    pipeline.wait_until_at_work("first", "other")
    started = children(process)
    process.stdout.close()
    pipeline.let("go-first")  # what it found cannot be printed
    assert process.wait(60) == 1
    wait_for(lambda: not running(started))


def test_stages_outlive_a_sigkill_and_a_second_call_meanwhile_says_who_is_at_work(tmp_path):
    pipeline = Pipeline(tmp_path)
    process = pipeline.start("ppdl", "repro")
    pipeline.wait_until_at_work("first", "other")
    started = children(process)
    process.kill()
    process.communicate()
    assert "is busy" in pipeline.run("ppdl", "repro", rc=1)
    pipeline.let("go")
    wait_for(lambda: not running(started))
    first = pipeline.made("first")
    pipeline.run("ppdl", "repro", "left", "other")
    assert pipeline.made("first") == first and pipeline.there() == ["first", "left", "other"]


def test_what_cannot_be_built_is_named(tmp_path):
    pipeline = Pipeline(tmp_path)
    assert "nosuchstage" in pipeline.run("ppdl", "repro", "nosuchstage", rc=1)
    (tmp_path / ".dvc").rename(tmp_path / "elsewhere")
    output = pipeline.run("ppdl", "repro", rc=1)
    assert "DVC" in output and "Traceback" not in output


def test_stages_share_the_cores_and_what_the_user_set_stays(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 16)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert shared_cores(3) == {"OMP_NUM_THREADS": "3", "TF_NUM_INTRAOP_THREADS": "5", "TF_NUM_INTEROP_THREADS": "5"}
    assert shared_cores(99)["TF_NUM_INTRAOP_THREADS"] == "1"


def test_the_longest_chain_comes_first():
    needs = {"a": set(), "b": {"a"}, "c": {"b"}, "short": set(), "end": {"c", "short"}}
    assert longest_chains(needs) == {"a": 4, "b": 3, "c": 2, "short": 2, "end": 1}


def test_of_a_progress_bar_the_last_state_is_shown(tmp_path):
    log = tmp_path / "log"
    log.write_bytes("one\n 0 %\r50 %\r100 %\ntwo\n 1 é\r 2 é".encode())
    assert end_of(log) == "one\n100 %\ntwo\n 2 é"
    log.write_bytes(b"")
    assert end_of(log) == ""
    log.write_bytes(b"x" * 10**5 + b"\nlast")
    assert end_of(log).endswith("\nlast")


def test_a_list_of_files_in_use_that_dvc_was_writing_when_it_was_killed_is_removed(tmp_path):
    pipeline = Pipeline(tmp_path, "go")
    (tmp_path / ".dvc/tmp").mkdir(exist_ok=True)
    for torn in ("", '{"read": {"'):
        (tmp_path / ".dvc/tmp/rwlock").write_text(torn)
        (tmp_path / "other").unlink(missing_ok=True)
        assert "RWLock-file '.dvc/tmp/rwlock'" in pipeline.run("dvc", "repro", "other", rc=255)
        output = pipeline.run("ppdl", "repro", "other")
        assert "rwlock, which a kill had left half-written" in output and pipeline.there() == ["other"]
    assert "up to date" in pipeline.run("dvc", "repro", "other")


def test_a_torn_dvc_lock_is_refused_with_what_to_do_and_that_loses_nothing(tmp_path):
    pipeline = Pipeline(tmp_path, "go")
    pipeline.run("ppdl", "repro", "left")
    lock = tmp_path / "dvc.lock"
    lock.write_bytes(b"")  # DVC empties it before it writes it
    assert "take that file from git (git checkout dvc.lock), or delete it" in pipeline.run("ppdl", "repro", "left", rc=1)
    lock.unlink()
    pipeline.let("break-left")  # it would fail if it ran again
    pipeline.run("ppdl", "repro", "left")
    assert pipeline.there() == ["first", "left"] and "up to date" in pipeline.run("dvc", "repro", "left")
