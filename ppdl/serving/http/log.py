"""The server's log: one JSON object a line on stderr, with sizes, times and names of problems, never with content.

An exception's text may quote what it is about, so of exceptions only the type and the places in the code are written.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("ppdl.serving")


class JsonLines(logging.Formatter):
    """Write a record as one line of JSON: time, level, event, and the fields given as `extra={"fields": ...}`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line)


def set_up() -> None:
    """Send what this package and uvicorn log to stderr, as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("ppdl.serving", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if logger is LOGGER else logging.WARNING)


def event(name: str, *, level: int = logging.INFO, exc_info: BaseException | None = None, fields: Mapping[str, object]) -> None:
    """Write one line."""
    LOGGER.log(level, name, extra={"fields": dict(fields)}, exc_info=exc_info)
