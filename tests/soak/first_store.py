"""Kill the making of MLflow's database with SIGKILL at chosen steps, and see that the next process gets a whole one.

python -m tests.soak.first_store --out tests/soak/results/first_store.json

A step is an SQL statement, the removal of a file, or a rename: what a kill leaves on the disk is what one of them left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.config import PROJECT
from tests.soak.forks import fork

RESULTS = Path(__file__).parent / "results/first_store.json"


def run(root: Path, num: int, *, in_place: bool = False) -> dict[str, Any]:
    """Kill at `num` steps spread evenly, and before and after each rename, each in a folder of its own, and return the figures.

    Args:
        in_place: let MLflow make the database as it does, in its place, which older versions of ppdl and MLflow's own commands do.
    """
    arguments = {"root": str(root), "num": num, "in_place": in_place}
    command = [sys.executable, "-m", "tests.soak.first_store", "--worker", json.dumps(arguments)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def _worker(root: str, num: int, in_place: bool) -> dict[str, Any]:
    """Do the work of `run` in a process of its own: it imports MLflow once, and each attempt is a fork of it."""
    from mlflow.db import upgrade
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from ppdl.tracking import open_store
    from ppdl.tracking.runs.write import create_run

    # What reaches the disk matters to a power cut, not to a kill, and is most of the time.
    event.listen(Engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))

    def make(folder: Path) -> None:
        if in_place:
            upgrade.callback(f"sqlite:///{folder}/mlflow.db")
        else:
            open_store(folder, "ppdl")

    def use(folder: Path) -> None:
        store = open_store(folder, "ppdl")
        run_id = create_run(store, "plain", {}, start_ms=0)
        assert [run.info.run_id for run in store.client.search_runs([store.experiment_id])] == [run_id]
        assert open_store(folder, "ppdl").experiment_id == store.experiment_id
        left = {path.name for path in folder.iterdir()} - {"mlflow.db", "mlflow.db.lock"}
        assert not left, f"left behind: {left}"

    kinds = _kinds_of_steps(make, Path(root) / "reference")
    renames = [step for step, kind in enumerate(kinds, 1) if kind == "os.rename"]
    chosen = {round(step) for step in np.linspace(1, len(kinds), num)} | {step + after for step in renames for after in (0, 1)}
    figures: dict[str, Any] = {"num_steps": len(kinds), "killed_at": [], "failed_at": []}
    for step in sorted(chosen):
        folder = Path(root) / str(step)
        folder.mkdir(parents=True)
        if fork(partial(_killed_at, step, make, folder)) != -signal.SIGKILL:
            raise AssertionError(f"the process was not killed at step {step} of {len(kinds)}")
        figures["killed_at"].append(step)
        if fork(partial(use, folder)):
            figures["failed_at"].append(step)
    return figures


def _kinds_of_steps(make: Callable[[Path], None], folder: Path) -> list[str]:
    """Make a database undisturbed, and return what each step is."""
    folder.mkdir(parents=True)

    def work() -> None:
        kinds: list[str] = []
        _at_each_step(kinds.append)
        make(folder)
        (folder / "kinds").write_text("\n".join(kinds))

    assert fork(work) == 0
    return (folder / "kinds").read_text().splitlines()


def _killed_at(step: int, make: Callable[[Path], None], folder: Path) -> None:
    seen = []

    def kill(kind: str) -> None:
        seen.append(kind)
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    _at_each_step(kill)
    make(folder)


def _at_each_step(call: Callable[[str], None]) -> None:
    """Call something after each SQL statement and before each removal and rename in this process."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    event.listen(Engine, "after_cursor_execute", lambda *_: call("sql"))
    sys.addaudithook(lambda name, _: call(name) if name in ("os.remove", "os.rename") else None)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.first_store")
    parser.add_argument("--num", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(_worker(**json.loads(args.worker))))
        return
    with tempfile.TemporaryDirectory(prefix="ppdl-first-store-") as root:
        ours = run(Path(root) / "ours", args.num)
        in_place = run(Path(root) / "in-place", args.num, in_place=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"ours": ours, "in_place": in_place}, indent=1) + "\n")
    print(args.out.read_text())


if __name__ == "__main__":
    main()
