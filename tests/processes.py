"""Servers that a test starts and ends: on 127.0.0.1, in a process group of their own, with their output in a file."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TIMEOUT_S = 90  # a cold start of MLflow on two busy cores takes 15 s


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def running(
    command: Sequence[str], log: Path, *, is_up: Callable[[], bool], env: Mapping[str, str] | None = None, user: str | None = None
) -> Iterator[subprocess.Popen]:
    """Start a server, wait until it is up, and end it with all the processes that it started.

    Args:
        user: whom the server runs as, and nobody else's groups; None for us.
    """
    other = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env, start_new_session=True, cwd=log.parent, **other)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not is_up():
            assert process.poll() is None, f"{command[0]} ended:\n{log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{command[0]} is not up:\n{log.read_text()[-3000:]}"
            time.sleep(0.1)
        yield process
    finally:
        _end(process)


def answers(url: str) -> bool:
    """Tell whether a server answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _end(process: subprocess.Popen) -> None:
    """End the group, at last by force: a test leaves nothing behind."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
