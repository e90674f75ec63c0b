"""Run all tests and record how much of ppdl/ they run.

python -m tests.soak.covered --out tests/soak/results/coverage.json    # as long as `make test`, and a fifth more

Counted are statements that tests run in their own process, so stages that a test starts as commands count for nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ppdl.config import PROJECT

LEAST_PERCENT = 95


def run() -> dict[str, Any]:
    """Run the tests and return the figures: of all of ppdl/, and by package.

    Raises:
        SystemExit: a test fails.
    """
    with tempfile.TemporaryDirectory(prefix="ppdl-covered-") as folder:
        report, outcomes = Path(folder) / "coverage.json", Path(folder) / "junit.xml"
        options = ["-n", "2", "--dist", "loadfile", "--cov=ppdl", f"--cov-report=json:{report}", f"--junitxml={outcomes}"]
        environment = os.environ | {"COVERAGE_FILE": str(Path(folder) / "data")}
        if code := subprocess.run([sys.executable, "-m", "pytest", *options], cwd=PROJECT, env=environment).returncode:
            raise SystemExit(f"the tests exited with {code}")
        files = json.loads(report.read_text())["files"]
        suite = next(ElementTree.parse(outcomes).iter("testsuite"))
    parts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, file in files.items():
        first, _, rest = name.removeprefix("ppdl/").partition("/")
        for part in ("ppdl", *([f"ppdl/{first}"] if rest else [])):
            parts[part][0] += file["summary"]["covered_lines"]
            parts[part][1] += file["summary"]["num_statements"]
    return {
        "python": platform.python_version(),
        "tests": int(suite.get("tests", 0)) - int(suite.get("skipped", 0)),
        "skipped": int(suite.get("skipped", 0)),
        "percent": {part: round(100 * ran / num, 1) for part, (ran, num) in sorted(parts.items())},
    }


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.covered")
    parser.add_argument("--out", type=Path, help="gets the figures")
    args = parser.parse_args(argv)
    figures = run()
    print(json.dumps(figures, indent=1))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if figures["percent"]["ppdl"] >= LEAST_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
