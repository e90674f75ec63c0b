"""A scratch checkout of the project with small data and a small key, whose pipeline may be killed at any moment."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import psutil

from ppdl.config import compose_params
from tests.test_pipeline import SMALL, Checkout, copy_of_the_project

_MARK = "PPDL_SCRATCH"  # in the environment of everything that a scratch checkout starts, so that what survives a kill is found


class Scratch(Checkout):
    """A fresh clone whose params.yaml holds the small settings, so that a plain `dvc repro` works on them."""

    def __init__(self, root: Path, overrides: list[str] = SMALL) -> None:
        self.private_dir, self.temporary = root / "private", root / "tmp"
        super().__init__(root / "clone", self.private_dir)
        for folder in (self.path, self.temporary):
            folder.mkdir(parents=True)
        self.mark = secrets.token_hex(8)
        self.env |= {_MARK: self.mark, "TMPDIR": str(self.temporary), "JOBLIB_TEMP_FOLDER": str(self.temporary)}
        copy_of_the_project(self.path)
        compose_params(self.path / "params.yaml", overrides)
        self.watch = Watch(self)
        self.run("git", "init", "-q", "-b", "main")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "start")

    def start(self, *command: str) -> Started:
        """Start a command in a process group of its own."""
        return Started(command, self)

    def processes(self) -> list[psutil.Process]:
        """List the processes that belong to this checkout, wherever they went."""
        return [process for process in psutil.process_iter() if _environment(process).get(_MARK) == self.mark]

    def run_states(self) -> dict[str, str]:
        """Return the status of every MLflow run by id, read from the database itself."""
        path = self.path / "mlflow.db"
        if not path.exists():
            return {}
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as database:
            try:
                return dict(database.execute("select run_uuid, status from runs"))
            except sqlite3.OperationalError:  # killed before MLflow made its tables
                return {}


class Watch:
    """Read the command line and the environment of every process of a scratch checkout, again and again.

    Attributes:
        processes: what was read of each process, by its id and start.
    """

    def __init__(self, checkout: Scratch) -> None:
        self._checkout, self._ended = checkout, threading.Event()
        self.processes: dict[tuple[int, float], str] = {}
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> bytes:
        """Return all that was read."""
        self._ended.set()
        self._thread.join()
        return "\n".join(self.processes.values()).encode(errors="surrogateescape")

    def _look(self) -> None:
        while not self._ended.wait(0.25):
            for process in self._checkout.processes():
                with contextlib.suppress(psutil.Error):
                    variables = "\n".join(f"{name}={value}" for name, value in process.environ().items())
                    self.processes[process.pid, process.create_time()] = f"{_command(process, None)}\n{variables}"


class Started:
    """A running `dvc repro` or `ppdl repro`: which stage it is in, and an end by SIGKILL."""

    def __init__(self, command: tuple[str, ...], checkout: Scratch) -> None:
        self._checkout, self.output, self.stages = checkout, [], []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            command,
            cwd=checkout.path,
            env=checkout.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self.output.append(line)
                if found := re.search(r"Running stage '([^']+)'", line):
                    self.stages.append((found.group(1), time.monotonic()))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def stage(self) -> str:
        """The stage that runs now, "start" before the first."""
        return self.stages[-1][0] if self.stages else "start"

    def wait_for_stage(self, names: set[str], timeout_s: float) -> str | None:
        """Wait until one of some stages starts, and return which; None when the pipeline ended without any of them."""

        def found() -> str | None:
            return next((stage for stage, _ in self.stages if stage in names), None)

        end = time.monotonic() + timeout_s
        with self._changed:
            while found() is None and (self._reader.is_alive() or self.process.poll() is None):
                self._changed.wait(0.5)
                if time.monotonic() > end:
                    raise TimeoutError(f"none of {sorted(names)} started within {timeout_s} s:\n{self.tail}")
        return found()

    def wait(self, timeout_s: float) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join(10)
        return code

    def kill(self) -> list[str]:
        """Send SIGKILL to the whole process group; return the names of processes that outlived it by five seconds, and end those."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.wait(30)
        end = time.monotonic() + 5
        while (left := self._checkout.processes()) and time.monotonic() < end:
            time.sleep(0.1)
        names = [_command(process) for process in left]
        for process in left:
            process.kill()
        return names

    def kill_all(self) -> list[str]:
        """Send SIGKILL to everything that the checkout started, `ppdl repro` first, until nothing is left; return the stages that ran."""
        stages = {command[-1] for command in map(_words, self._checkout.processes()) if "ppdl.cli.repro" in command}
        self.process.kill()
        killed = set()
        while left := self._checkout.processes():
            for process in left:
                killed.add(process.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.wait(30)
        end = time.monotonic() + 30
        while any(map(psutil.pid_exists, killed)) and time.monotonic() < end:  # until it is reaped, DVC takes a dead process for busy
            time.sleep(0.1)
        return sorted(stages)

    @property
    def tail(self) -> str:
        return "".join(self.output[-60:])


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _command(process: psutil.Process, length: int | None = 200) -> str:
    return " ".join(_words(process))[:length] or "(ended)"


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
