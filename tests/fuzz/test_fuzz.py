"""A sample of the fuzz (tests/soak/fuzz.py), in a process whose memory is limited; and that the fuzz notices what it looks for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from ppdl.errors import DataError, PpdlError
from tests.soak import fuzz

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = 1500


def test_damaged_input_is_refused_by_name_in_bounded_time_and_memory(tmp_path):
    out = tmp_path / "fuzz.json"
    command = [sys.executable, "-m", "tests.soak.fuzz", "--cases", str(SAMPLE), "--seed", "1", "--out", str(out)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    figures = json.loads(out.read_text())
    assert figures["num_cases"] >= SAMPLE
    assert len(figures["targets"]) == len(fuzz.TARGETS)
    assert figures["peak_memory_bytes"] < fuzz.MEMORY_BYTES
    assert all(row.get("refused", 0) > 0 for name, row in figures["targets"].items() if name != "states of trainings")


def test_a_crash_is_a_failure():
    def read(case: int) -> None:
        if case > 10:
            raise ValueError("not one of ours")
        raise DataError("ours")

    with pytest.raises(ValueError, match="not one of ours"):
        fuzz.fuzz("crash", st.integers(0, 100), read, PpdlError, 100, seed=1)
    outcome = fuzz.fuzz("refusals", st.integers(0, 10), read, PpdlError, 20, seed=1)
    assert outcome.counts["refused"] > 5 and outcome.counts["accepted"] == 0


def test_another_error_of_ours_than_the_readers_is_a_failure():
    from ppdl.errors import ConfigError

    def read(case: int) -> None:
        raise ConfigError("of another reader")

    with pytest.raises(ConfigError):
        fuzz.fuzz("wrong error", st.integers(0, 3), read, DataError, 10, seed=1)


def test_a_hang_is_a_failure(monkeypatch):
    monkeypatch.setattr(fuzz, "DEADLINE_S", 0.2)
    with pytest.raises(fuzz.Hang):
        fuzz.fuzz("hang", st.just(0), lambda case: time.sleep(5), PpdlError, 1, seed=1)


def test_memory_is_limited():
    code = "import tests.soak.fuzz as f\nf.run = lambda *a: bytes(f.MEMORY_BYTES)\nf.main(['--cases', '1'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert "MemoryError" in done.stderr
