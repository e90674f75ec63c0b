"""Rebuild the whole experiment in a fresh clone, as a newcomer does, and record what it took and what came out.

python -m tests.soak.repro --out tests/soak/results/repro.json                        # about 10 minutes on 2 cores
python -m tests.soak.repro --python python3.13 --out tests/soak/results/repro.json    # with another interpreter
python -m tests.soak.repro --serial --out tests/soak/results/repro.json               # one stage at a time, `dvc repro`

The clone is of the last commit. `make setup` is timed apart, for it depends on the network. Full data, key length and epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ppdl.config import PROJECT

_STAGE = re.compile(r"^ *\d+/\d+  (\S+) +([\d.]+) s$", re.MULTILINE)


class Clone:
    """A fresh clone with an environment and a folder of private keys of its own."""

    def __init__(self, root: Path, python: str) -> None:
        self.path, self.python = root / "clone", python
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_", "VIRTUAL_ENV"))}
        path = f"{self.path / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
        self.env = inherited | {"PPDL_PRIVATE_KEY_DIR": str(root / "private"), "PATH": path}
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(self.path)], check=True)

    def timed(self, *command: str) -> tuple[float, float, str]:
        """Run a command and return wall seconds, core seconds of all its processes, and what it printed.

        Raises:
            SystemExit: it failed.
        """
        before, began = _children_s(), time.monotonic()
        done = subprocess.run(command, cwd=self.path, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wall_s = time.monotonic() - began
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} exited with {done.returncode} in a fresh clone:\n{done.stdout[-4000:]}")
        return round(wall_s, 1), round(_children_s() - before, 1), done.stdout


def rebuild(python: str, serial: bool, keep: Path | None = None) -> dict[str, Any]:
    """Rebuild everything, in a folder that is kept where one is named, and return the figures."""
    with nullcontext(keep) if keep else tempfile.TemporaryDirectory(prefix="ppdl-repro-") as folder:
        clone = Clone(Path(folder), python)
        setup_s, _, _ = clone.timed("make", "setup", f"PYTHON={python}")
        version = clone.timed(".venv/bin/python", "--version")[2].split()[1]
        wall_s, core_s, said = clone.timed("dvc", "repro") if serial else clone.timed("make", "repro", f"PYTHON={python}")
        again = [clone.timed("dvc", "repro") for _ in range(3)]
        if any("up to date" not in text for _, _, text in again):
            raise SystemExit("a further `dvc repro` had something to do")
        metrics = json.loads((clone.path / "reports/metrics.json").read_text())
    return {
        "python": version,
        "stages_at_a_time": 1 if serial else 2,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "setup_s": setup_s,
        "wall_s": wall_s,
        "core_s": core_s,
        "nothing_to_do_s": sorted(wall for wall, _, _ in again)[1],
        "stages_s": {name: float(seconds) for name, seconds in _STAGE.findall(said)},
        "accuracy": {name: run["accuracy"] for name, run in metrics.items() if "accuracy" in run},
    }


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.repro")
    parser.add_argument("--python", default=sys.executable, help="interpreter that the environment is made with")
    parser.add_argument("--serial", action="store_true", help="one stage at a time")
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave everything there")
    parser.add_argument("--out", type=Path, help="gets the figures beside those of other interpreters")
    args = parser.parse_args(argv)
    figures = rebuild(args.python, args.serial, args.keep and args.keep.absolute())
    print(json.dumps(figures, indent=1))
    if args.out:
        known = json.loads(args.out.read_text()) if args.out.exists() else []
        key = ("python", "stages_at_a_time")
        known = [run for run in known if [run[k] for k in key] != [figures[k] for k in key]]
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps([*known, figures], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
