"""The soak's own records: a promise without a test is none, and the page shows what was recorded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from benchmarks import scale
from ppdl.config import PROJECT
from tests.soak import hospital_kills, promises, table

TOYS = """
import pytest
def test_holds(): pass
def test_breaks(): assert False
def test_cannot_be_seen(): pytest.skip("no such machine")
def test_of_something_else(): assert False
"""


@pytest.mark.parametrize("pattern", sorted({pattern for patterns in promises.PROMISES.values() for pattern in patterns}))
def test_every_promise_has_its_tests(pattern):
    file, _, name = pattern.partition("::")
    functions = [node.name for node in ast.parse((PROJECT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert any(fnmatch(function, name) for function in functions if function.startswith("test_"))


def run_promises(named: dict[str, list[str]], root: Path) -> subprocess.CompletedProcess[str]:
    code = "import json, pathlib, sys; from tests.soak.promises import run\n"
    code += "print('FOUND' + json.dumps(run(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2]))))"
    return subprocess.run([sys.executable, "-c", code, json.dumps(named), root], cwd=PROJECT, capture_output=True, text=True)


def test_outcomes_are_recorded_by_promise(tmp_path):
    (tmp_path / "test_toys.py").write_text(TOYS)
    holds, breaks, skips = ("test_toys.py::test_holds", "test_toys.py::test_b*", "test_toys.py::test_c*")
    done = run_promises({"a": [holds], "b": [holds, breaks], "c": [skips]}, tmp_path)
    found = json.loads(done.stdout.partition("FOUND")[2])["promises"]
    outcomes = {name: {k: v for k, v in row.items() if k not in ("tests", "seconds")} for name, row in found.items()}
    assert outcomes == {"a": {"passed": 1}, "b": {"passed": 1, "failed": 1}, "c": {"skipped": 1}}
    done = run_promises({"a": ["test_toys.py::test_nothing"]}, tmp_path)
    assert done.returncode != 0 and "no test matches test_toys.py::test_nothing" in done.stderr


def test_the_page_shows_what_was_recorded():
    assert table.main(["--check"]) == 0, "run `python -m tests.soak.table --write`"


def test_the_page_of_costs_shows_what_was_recorded(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scale", "--json", str(table.RESULTS / "scale.json"), "--markdown"])
    scale.main()
    printed = [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith("|") and set(line) - set("|-: ")]
    page = [cells(line) for line in (PROJECT / "docs/benchmarks.md").read_text().splitlines() if line.startswith("|")]
    assert len(printed) > 50 and [row for row in printed if row not in page] == []


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_what_was_recorded_holds():
    if kills := table.recorded("kills"):
        assert kills["obfuscators_reused"] == 0 and kills["temporary_files"] == 0 and kills["survivors"] == []
        assert kills["num_kills"] >= 50 and len(kills["killed_in"]) > 8
        assert kills["beside"]["obfuscators_reused"] == 0 and kills["beside"]["num_kills"] >= 20
    if killed := table.recorded("pool_kills"):
        assert killed["num_kills"] == sum(killed["num_steps"].values()) >= 20 and killed["held_out"] > 0
    if killed := table.recorded("hospital_kills"):
        assert killed["is_the_stages_head"]
        for of, kills in ((killed, hospital_kills.KILLS), (killed["federation"], hospital_kills.FEDERATED)):
            assert [(kill["party"], kill["phase"]) for kill in of["kills"]] == [kill[:2] for kill in kills]
            assert of["all_the_same"] and all(kill["the_same"] for kill in of["kills"])
    if fuzz := table.recorded("fuzz"):
        assert fuzz["num_cases"] >= 100_000 and fuzz["peak_memory_bytes"] < fuzz["memory_limit_bytes"]
        assert all(row["slowest_s"] < fuzz["deadline_s"] for row in fuzz["targets"].values())
    if mutants := table.recorded("mutants"):
        assert mutants["killed"] + len(mutants["left"]) == mutants["counted"] and mutants["killed"] >= 0.9 * mutants["counted"]
        assert len(mutants["done"]) == mutants["wanted"] >= 400
    if kept := table.recorded("promises"):
        assert kept["promises"].keys() == promises.PROMISES.keys(), "run `python -m tests.soak.promises` again"
        assert not any(row.get("failed") for row in kept["promises"].values())
