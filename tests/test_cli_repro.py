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

from ppdl.cli.repro import end_of, longest_chain

STAGE = """
import pathlib, sys, time
name, *needed = sys.argv[1:]
assert all(pathlib.Path(n).exists() for n in needed)
began = time.monotonic()
print("working\\r" + name + " at work", file=sys.stderr, flush=True)
print("found by " + name)
time.sleep(float(pathlib.Path("seconds").read_text()))
pathlib.Path(name).write_text(f"{began} {time.monotonic()}")
"""
NEEDS = {"first": [], "left": ["first"], "right": ["first"], "other": [], "last": ["left", "right", "other"]}


class Pipeline:
    """A DVC project whose stages sleep and write down when they ran."""

    def __init__(self, path: Path, needs: dict[str, list[str]], seconds: float = 0.5) -> None:
        self.path = path
        (path / "stage.py").write_text(STAGE)
        (path / "seconds").write_text(str(seconds))
        self.write(needs)
        self.run("dvc", "init", "--no-scm", "-q")

    def write(self, needs: dict[str, list[str]]) -> None:
        stages = {
            name: {"cmd": f"{sys.executable} stage.py {' '.join([name, *n])}", "deps": n, "outs": [name]} for name, n in needs.items()
        }
        (self.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *command: str, fails: bool = False) -> str:
        process = self.start(*command)
        output = process.communicate(timeout=120)[0]
        assert (process.returncode != 0) is fails, output
        return output

    def wait_until_at_work(self, *names: str) -> None:
        deadline = time.monotonic() + 60
        logs = [self.path / f".ppdl/repro/{name}.log" for name in names]
        while not all(log.exists() and "at work" in log.read_text() for log in logs):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def time_of(self, name: str) -> tuple[float, float]:
        began, ended = map(float, (self.path / name).read_text().split())
        return began, ended


def test_stages_run_side_by_side_and_dvc_has_nothing_left_to_do(tmp_path):
    pipeline = Pipeline(tmp_path, NEEDS, seconds=4)
    output = pipeline.run("ppdl", "repro", "--jobs", "2")
    assert "5 stages in" in output and all(f"found by {name}" in output for name in NEEDS) and "at work" not in output
    times = {name: pipeline.time_of(name) for name in NEEDS}
    assert times["first"][0] < times["other"][1] and times["other"][0] < times["first"][1]
    assert times["left"][0] < times["right"][1] and times["right"][0] < times["left"][1]
    assert all(times[needed][1] < times[name][0] for name, before in NEEDS.items() for needed in before)
    assert "up to date" in pipeline.run("dvc", "repro")
    assert "up to date" in pipeline.run("ppdl", "repro")
    assert (tmp_path / ".ppdl/repro/left.log").read_text().count("left at work") == 1


def test_only_what_is_out_of_date_and_wanted_runs(tmp_path):
    pipeline = Pipeline(tmp_path, NEEDS, seconds=0)
    pipeline.run("ppdl", "repro", "left", "--jobs", "1")
    assert sorted(name for name in NEEDS if (tmp_path / name).exists()) == ["first", "left"]
    first = pipeline.time_of("first")
    output = pipeline.run("ppdl", "repro")
    assert "3 stages in" in output and pipeline.time_of("first") == first
    (tmp_path / "other").unlink()
    assert "other" in pipeline.run("ppdl", "repro", "other")


def test_a_failure_stops_what_follows_and_shows_what_the_stage_said(tmp_path):
    pipeline = Pipeline(tmp_path, NEEDS, seconds=0)
    pipeline.write(NEEDS | {"right": ["first", "absent"]})
    (tmp_path / "absent").write_text("there")
    (tmp_path / "stage.py").write_text(STAGE + "assert name != 'right', 'the right one breaks'\n")
    output = pipeline.run("ppdl", "repro", "--jobs", "1", fails=True)
    assert "stage right failed" in output and "the right one breaks" in output and "Traceback" in output
    assert not (tmp_path / "last").exists()
    (tmp_path / "stage.py").write_text(STAGE)
    first = pipeline.time_of("first")
    pipeline.run("ppdl", "repro")
    assert pipeline.time_of("first") == first and (tmp_path / "last").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_process_behind(tmp_path, sent):
    pipeline = Pipeline(tmp_path, NEEDS, seconds=60)
    process = pipeline.start("ppdl", "repro")
    pipeline.wait_until_at_work("first", "other")
    started = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert len(started) >= 4  # two DVCs, two stages
    process.send_signal(sent)
    output = process.communicate(timeout=60)[0]
    assert process.returncode != 0 and "interrupted" in output and "Traceback" not in output
    assert not [pid for pid in started if psutil.pid_exists(pid)]
    (tmp_path / "seconds").write_text("0")
    pipeline.run("ppdl", "repro")
    assert (tmp_path / "last").exists()


def test_stages_outlive_a_sigkill_and_a_second_call_meanwhile_says_who_is_at_work(tmp_path):
    pipeline = Pipeline(tmp_path, NEEDS, seconds=8)
    process = pipeline.start("ppdl", "repro")
    pipeline.wait_until_at_work("first", "other")
    started = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    assert "is busy" in pipeline.run("ppdl", "repro", fails=True)
    psutil.wait_procs(started, timeout=60)
    first = pipeline.time_of("first")
    (tmp_path / "seconds").write_text("0")
    pipeline.run("ppdl", "repro")
    assert pipeline.time_of("first") == first and (tmp_path / "last").exists()


def test_what_cannot_be_built_is_named(tmp_path):
    pipeline = Pipeline(tmp_path, NEEDS)
    assert "nosuchstage" in pipeline.run("ppdl", "repro", "nosuchstage", fails=True)
    (tmp_path / ".dvc").rename(tmp_path / "elsewhere")
    output = pipeline.run("ppdl", "repro", fails=True)
    assert "DVC" in output and "Traceback" not in output


def test_the_longest_chain_comes_first():
    needs = {"a": set(), "b": {"a"}, "c": {"b"}, "short": set(), "end": {"c", "short"}}
    assert {name: longest_chain(name, needs) for name in needs} == {"a": 4, "b": 3, "c": 2, "short": 2, "end": 1}


def test_of_a_progress_bar_the_last_state_is_shown(tmp_path):
    log = tmp_path / "log"
    log.write_bytes("one\n 0 %\r50 %\r100 %\ntwo\n 1 é\r 2 é".encode())
    assert end_of(log) == "one\n100 %\ntwo\n 2 é"
    log.write_bytes(b"")
    assert end_of(log) == ""
    log.write_bytes(b"x" * 10**5 + b"\nlast")
    assert end_of(log).endswith("\nlast")
