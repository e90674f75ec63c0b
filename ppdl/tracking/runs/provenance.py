"""Where a run comes from: the commit, DVC's hashes of what was read, the machine's process, the versions.

Nothing here imports mlflow. Everything is best effort, since a run outside git or DVC is still a run: what is not known
has no tag.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import platform
import socket
import subprocess  # nosec B404  # for git alone
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from ppdl.errors import DISTRIBUTION

logger = logging.getLogger(__name__)

PROCESS = "process"  # tag "host:process id:start"; says whether an unfinished run still has someone to finish it

# What decides a result. dvc.lock and reports/ change with every run, and a note beside them makes no code dirty.
CODE = ("ppdl", "stages", "conf", "dvc.yaml", "params.yaml", "pyproject.toml", "requirements.lock")


def git_tags(project: Path) -> dict[str, str]:
    """Return the commit of `project`, and whether code or configuration differ from it (also by an untracked file)."""
    commit = _git(project, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git(project, "status", "--porcelain", "--", *CODE)
    return {
        "git.commit": commit,
        "git.dirty": "unknown" if changes is None else str(bool(changes)).lower(),
        "mlflow.source.git.commit": commit,
    }


def _git(project: Path, *arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(project), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)  # nosec B603  # no shell, constants and a path
    except (OSError, subprocess.SubprocessError) as error:
        logger.debug("git %s: %s", arguments[0], error)
        return None
    return done.stdout.strip()


def dvc_tags(project: Path, inputs: Sequence[str]) -> dict[str, str]:
    """Return the MD5 that dvc.lock holds for each input, and the names of the DVC stage and experiment.

    A stage's own entry in dvc.lock is written after it ends, so its inputs are looked up as outputs of earlier stages
    first. A stage that is run by hand reports what DVC recorded last.

    Args:
        project: folder of dvc.lock.
        inputs: paths as dvc.yaml writes them, such as "data/prepared".
    """
    tags = {
        tag: os.environ[name] for tag, name in {"dvc.stage": "DVC_STAGE", "dvc.experiment": "DVC_EXP_NAME"}.items() if os.environ.get(name)
    }
    hashes = _lock_hashes(project / "dvc.lock")
    return tags | {f"dvc.md5.{path}": hashes[path] for path in inputs if path in hashes}


def _lock_hashes(lock: Path) -> dict[str, str]:
    try:
        stages = (yaml.safe_load(lock.read_text()) or {}).get("stages", {}).values()
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError, AttributeError) as error:
        logger.warning("%s cannot be read, so the run has no DVC hashes: %s", lock, error)
        return {}
    rows = [row for kind in ("deps", "outs") for stage in stages for row in stage.get(kind, ())]  # outs win
    return {row["path"]: row["md5"] for row in rows if "md5" in row}


def machine_tags() -> dict[str, str]:
    """Return the versions, the user, and the process, by which `process_is_alive` later finds a killed run."""
    tags = {"python.version": platform.python_version(), PROCESS: _process_id(os.getpid()) or ""}
    for name, package in (("ppdl", DISTRIBUTION), ("keras", "keras")):
        try:
            tags[f"{name}.version"] = version(package)
        except PackageNotFoundError:
            continue
    with contextlib.suppress(KeyError, OSError):  # a container's user without an entry in passwd
        tags["mlflow.user"] = getpass.getuser()
    return tags


def _process_id(pid: int) -> str | None:
    import psutil  # of the extra `train`; `ppdl predict --server` comes by here, and does without

    try:
        return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.0f}"
    except psutil.Error:
        return None


def process_is_alive(tag: str) -> bool | None:
    """Tell whether the process of a run's `process` tag still runs; None when that was on another machine."""
    host, _, rest = tag.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdecimal():
        return None
    current = _process_id(int(rest))
    if current is None:
        return False
    # A corrected clock moves the computed start of a process; a reused process id is rarely that close.
    return abs(float(current.rpartition(":")[2]) - float(tag.rpartition(":")[2])) < 60
