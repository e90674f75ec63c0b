"""What a stage cost, recorded when it runs."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ppdl.crypto.arithmetic.engine import engine
from ppdl.crypto.workers.parallel import away_core_seconds


@contextmanager
def recorded_cost(path: Path) -> Iterator[dict[str, Any]]:
    """Measure what runs inside and write it to `path` as JSON: engine, seconds, core_seconds (with finished workers), and what is added.

    A step that went on after an interrupt counts from there. Nothing is written when it fails.

    Yields:
        A dict for further values, such as bytes.
    """
    more: dict[str, Any] = {}
    start, core_start = time.perf_counter(), core_seconds()
    yield more
    cost = {
        "engine": engine(),
        "seconds": round(time.perf_counter() - start, 3),
        "core_seconds": round(core_seconds() - core_start, 3),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cost | more, indent=1) + "\n", encoding="utf-8")


def core_seconds() -> float:
    """Return the CPU time of this process and of its finished worker processes so far, those of a cluster included."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + away_core_seconds()


def folder_bytes(folder: Path) -> int:
    """Return the size of the files of a folder."""
    return sum(path.stat().st_size for path in Path(folder).iterdir())
