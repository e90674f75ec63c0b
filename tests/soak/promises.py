"""Run the tests behind each promise of docs/reliability.md and docs/security.md, and record what came out.

python -m tests.soak.promises --out tests/soak/results/promises.json    # some minutes on 2 cores

A promise holds when all of its tests passed; one that could not be looked at on this machine, because a test was skipped, is said to be
so. A pattern that names no test fails the run: a promise without a test is none.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from ppdl.config import PROJECT

PROMISES: dict[str, tuple[str, ...]] = {
    "full disk: one line names the place, what was finished is kept": (
        "tests/faults/test_faults.py::test_a_full_disk_*",
        "tests/fuzz/test_found.py::test_a_full_disk_*",
    ),
    "read-only output, missing permission: one line names the file": (
        "tests/faults/test_faults.py::test_a_read_only_disk_*",
        "tests/faults/test_faults.py::test_a_folder_without_permission_*",
    ),
    "a clock that jumps loses no metric": (
        "tests/faults/test_faults.py::test_a_clock_*",
        "tests/faults/test_faults.py::test_a_jump_*",
        "tests/faults/test_faults.py::test_no_duration_*",
    ),
    "two `dvc repro` at once: one works, the other says why not": ("tests/faults/test_kills.py::test_of_two_repros_*",),
    "two writers of one artifact: the second is refused": ("tests/crypto/encryption/test_resume.py::test_a_second_writer_*",),
    "two sweeps at once on one sqlite store lose nothing": ("tests/faults/test_faults.py::test_two_sweeps_*",),
    "the MLflow server vanishes: training goes on, what is missing is sent later or said": (
        "tests/tracking/runs/test_run.py::test_a_store_that_*",
        "tests/tracking/runs/test_results.py::test_a_run_that_lost_its_store_*",
    ),
    "no MLflow server at the start: an error within seconds": ("tests/tracking/test_store.py::test_unreachable_server_*",),
    "Ctrl-C and SIGTERM leave a state to go on from, and a marked run": (
        "tests/crypto/encryption/test_resume.py::test_a_real_interrupt_*",
        "tests/tracking/runs/test_run.py::test_a_terminated_run_*",
        "tests/cli/test_repro.py::test_an_interruption_*",
    ),
    "misspelt keys, wrong types and ranges: named before any work": (
        "tests/fuzz/test_found.py::test_a_wrong_value_*",
        "tests/fuzz/test_found.py::test_an_override_*",
        "tests/fuzz/test_found.py::test_the_first_stage_*",
    ),
    "the private key is in no file, log, exception, pickle or message": (
        "tests/crypto/encryption/test_secrets.py::*",
        "tests/tracking/runs/test_run.py::test_nothing_of_a_private_key_*",
        "tests/tracking/runs/test_run.py::test_key_material_*",
    ),
    "nor in a command line, an environment, a core dump or what other programs read": ("tests/security/test_process.py::*",),
    "private files and folders are the owner's alone": (
        "tests/crypto/keys/test_keystore.py::test_umask_*",
        "tests/crypto/keys/test_keystore.py::test_open_private_folder_*",
        "tests/crypto/keys/test_keystore.py::test_private_file_that_others_may_read_*",
        "tests/faults/test_faults.py::test_another_user_*",
    ),
    "nothing that is read may run code; randomness comes from the operating system; servers listen on 127.0.0.1": (
        "tests/security/test_source.py::*",
    ),
    "paths that lead out, decompression bombs: refused in little memory": ("tests/security/test_hostile_files.py::*",),
    "dependencies are exact, hashed, and lock to the same bytes again": ("tests/security/test_supply_chain.py::*",),
    "a signed artifact that anybody changed is refused, also with all digests made anew": ("tests/crypto/test_signing.py::*",),
    "Ray: equal bytes, a killed worker's tasks are done again, no private key is sent": ("tests/crypto/workers/test_cluster.py::*",),
    "training on two devices learns what one does": ("tests/training/fitting/test_devices.py::*",),
    "a server of private inference that is killed under load answers nothing wrongly": ("tests/serving/server/test_load.py::*",),
    "stages side by side give what `dvc repro` gives": (
        "tests/cli/test_repro.py::test_stages_run_side_by_side_*",
        "tests/cli/test_repro.py::test_dvc_lock_*",
    ),
}


class Recorder:
    """Keep the tests of the promises, drop the others, and note what became of each promise."""

    def __init__(self, promises: dict[str, tuple[str, ...]]) -> None:
        self.promises = promises
        self.outcomes: dict[str, Counter[str]] = {promise: Counter() for promise in promises}
        self.seconds: Counter[str] = Counter()
        self.unmatched: list[str] = []

    def _of(self, nodeid: str) -> list[str]:
        return [promise for promise, patterns in self.promises.items() if any(fnmatch(nodeid, pattern) for pattern in patterns)]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Select."""
        names = [item.nodeid for item in items]
        patterns = [pattern for patterns in self.promises.values() for pattern in patterns]
        self.unmatched = [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in names)]
        items[:] = [item for item in items if self._of(item.nodeid)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note."""
        for promise in self._of(report.nodeid):
            self.seconds[promise] += report.duration
            if report.when == "call" or report.outcome != "passed":
                self.outcomes[promise][report.outcome] += 1


def run(promises: dict[str, tuple[str, ...]], root: Path = PROJECT) -> dict[str, Any]:
    """Run the tests of all promises and return the figures.

    Raises:
        SystemExit: a pattern names no test.
    """
    recorder = Recorder(promises)
    files = sorted({str(root / pattern.partition("::")[0]) for patterns in promises.values() for pattern in patterns})
    pytest.main(["-q", "-p", "no:cacheprovider", f"--rootdir={root}", *files], plugins=[recorder])
    if recorder.unmatched:
        raise SystemExit(f"no test matches {', '.join(recorder.unmatched)}")
    return {
        "python": platform.python_version(),
        "promises": {
            promise: {"tests": list(patterns), "seconds": round(recorder.seconds[promise], 1), **recorder.outcomes[promise]}
            for promise, patterns in promises.items()
        },
    }


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.promises")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    figures = run(PROMISES)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if any(row.get("failed") for row in figures["promises"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
