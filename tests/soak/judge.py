"""Run chosen tests in a forked child, each within a few times the CPU time that it took before, and say how that ended.

The parent imports what the tests import, except the project itself, and so a child has little left to import. A limit counts CPU time
of the child, so nothing is cut short because the machine was busy or the run suspended; what waits for ever without using the CPU is
found by the time during which the parent was awake.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

PATHS = (
    "crypto",
    "attacks",
    "private_head/test_head.py",
    "private_head/test_inference.py",
    "protections",
    "stages/test_signing.py",
    "evaluation/measures/test_statistics.py",
)
TIMES = 5  # a test that needs more than this times its time, and SPARE_S, hangs
SPARE_S = 5
DATA_BYTES = 6 * 2**30  # so that a number that grows for ever meets a MemoryError
BROKEN = 70  # how a child ends in which pytest itself could not be run
_WAITS_S = 45
_OWN = ("ppdl", "stages", "tests", "benchmarks", "__main__")
_NO_FORK = ("ray", "tensorflow", "keras", "torch", "grpc")  # have threads, or lose their state
_OPTIONS = ("-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-profile=mutants", "--no-header", "--tb=no", "-W", "ignore")


@dataclass(frozen=True)
class Ending:
    """How a run of tests ended.

    Attributes:
        code: pytest's exit code, negative for a signal.
        last: the test that was running last.
    """

    code: int
    last: str


class _Course:
    """The plugin of a child: runs what was chosen in the given order, and limits and reports each test."""

    def __init__(self, seconds: dict[str, float], tell: Callable[[float, str], None]) -> None:
        self._order = {name: index for index, name in enumerate(seconds)}
        self._seconds, self._tell = seconds, tell

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self._order), key=lambda item: self._order[item.nodeid])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        limit = TIMES * self._seconds[item.nodeid] + SPARE_S
        signal.setitimer(signal.ITIMER_PROF, limit)  # not inherited, as RLIMIT_CPU would be, by workers that serve many tests
        self._tell(limit + _WAITS_S, item.nodeid)


class _Failures(_Course):
    """The plugin that also writes down what fails."""

    def __init__(self, seconds: dict[str, float], tell: Callable[[float, str], None], out: Path) -> None:
        super().__init__(seconds, tell)
        self._out = out

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            with self._out.open("a") as file:
                file.write(f"{report.nodeid}\n")


class Stopwatch:
    """The plugin that measures every test, fixtures included."""

    def __init__(self, out: Path) -> None:
        self._out, self.seconds = out, {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self.seconds.pop(report.nodeid, None)
        elif report.when == "setup" or report.nodeid in self.seconds:
            self.seconds[report.nodeid] = round(self.seconds.get(report.nodeid, 0) + report.duration, 4)

    def pytest_sessionfinish(self) -> None:
        modules = [name for name in sys.modules if name.partition(".")[0] not in (*_OWN, *_NO_FORK)]
        self._out.write_text(json.dumps({"seconds": self.seconds, "modules": modules}))


def prepare(project: Path, scratch: Path) -> None:
    """Make this process one whose children run the tests of a copy of the project."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what a child leaves behind becomes ours, and is ended
    os.environ |= {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PYTHONPATH": str(project),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    sys.path[:] = [str(project), *(entry for entry in sys.path if entry not in ("", str(Path.cwd())))]
    os.chdir(project)
    for name in [name for name in sys.modules if name.partition(".")[0] in _OWN and name != "__main__"]:
        del sys.modules[name]  # children import the copy's


def preload(modules: list[str]) -> None:
    """Import what the tests import."""
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if "ppdl" in sys.modules:  # children would not see a mutant of it
        raise SystemExit("importing what the tests import has imported the project")


def run(seconds: dict[str, float], scratch: Path) -> Ending:
    """Run tests in a child, in the order of `seconds`, up to the first that fails."""
    files = dict.fromkeys(name.partition("::")[0] for name in seconds)
    return fork([*files, "-x"], scratch, lambda tell: _Course(seconds, tell))


def unsteady(seconds: dict[str, float], scratch: Path) -> list[str]:
    """Return the tests that fail in the order of `seconds` without any mutant, which may judge none."""
    out = scratch / "failed.txt"
    out.touch()
    files = dict.fromkeys(name.partition("::")[0] for name in seconds)
    fork([*files], scratch, lambda tell: _Failures(seconds, tell, out))
    return sorted(set(out.read_text().splitlines()))


def measure(project: Path, scratch: Path) -> dict[str, Any]:
    """Run all tests, and return their times and which of them ran each line of the project: {file: {line: [test]}}."""
    import coverage

    record, lines = scratch / "times.json", scratch / "coverage"
    os.environ["COVERAGE_FILE"] = str(lines)
    cov = ["-p", "pytest_cov", "--cov=ppdl.crypto", "--cov=ppdl.evaluation", "--cov-context=test", "--cov-report="]
    ending = fork([*(f"tests/{name}" for name in PATHS), *cov], scratch, lambda _: Stopwatch(record), awake_s=3600)
    if ending.code != 0:
        raise SystemExit(f"the tests fail without any mutant: pytest ended with {ending.code}")
    data = coverage.CoverageData(str(lines))
    data.read()
    found = json.loads(record.read_text())
    found["ran"] = {
        str(Path(file).relative_to(project)): {
            str(line): sorted({context.partition("|")[0] for context in contexts} & found["seconds"].keys())
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    return found


def fork(arguments: list[str], scratch: Path, plugin: Callable[[Callable[[float, str], None]], Any], awake_s: float = 120) -> Ending:
    """Run pytest in a child; `awake_s` is how long it may take to collect the tests."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            _child([*arguments, *_OPTIONS, f"--basetemp={scratch / 'pytest'}"], scratch, plugin, theirs)
        finally:
            os._exit(BROKEN)
    os.close(theirs)
    try:
        return _watch(pid, ours, awake_s)
    finally:
        os.close(ours)
        _end_children()


def _child(arguments: list[str], scratch: Path, plugin: Callable[[Callable[[float, str], None]], Any], pipe: int) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    log = os.open(scratch / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.setitimer(signal.ITIMER_PROF, 0 if "--cov-context=test" in arguments else 60)
    import hypothesis

    hypothesis.settings.register_profile(
        "mutants",
        database=None,
        deadline=None,
        derandomize=True,
        print_blob=False,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    code = pytest.main(["-p", "_hypothesis_pytestplugin", *arguments], plugins=[plugin(functools.partial(_tell, pipe))])
    os._exit(code)


def _tell(pipe: int, limit_s: float, name: str) -> None:
    os.write(pipe, f"{limit_s:.1f} {name}\n".encode())


def _watch(pid: int, pipe: int, awake_s: float) -> Ending:
    told, last, awake = b"", "", 0.0
    open_ = True
    while True:
        began = time.monotonic()
        if open_ and select.select([pipe], [], [], 0.05)[0]:
            piece = os.read(pipe, 65536)
            open_ = bool(piece)  # nobody holds the other end any more
            *lines, told = (told + piece).split(b"\n")
            if lines:
                limit, _, last = lines[-1].decode().partition(" ")
                awake_s, awake = float(limit), 0.0
        elif not open_:
            time.sleep(0.01)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return Ending(os.waitstatus_to_exitcode(status), last)
        awake += min(time.monotonic() - began, 0.1)  # longer: this process was suspended
        if awake > awake_s:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Ending(-signal.SIGKILL, last)


def _end_children() -> None:
    """End what a child left behind: workers, servers, and what they started."""
    for _ in range(20):
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)
