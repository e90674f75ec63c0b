"""What TensorFlow prints on a machine without a GPU before any of its settings is read: that it found no CUDA, and that oneDNN is on.

TensorFlow 2.21 writes these lines to file descriptor 2 while it is imported; TF_CPP_MIN_LOG_LEVEL leaves out those that come later
(findings/tensorflow_prints_at_log_level_3.sh).
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_NOISE = re.compile(rb"(WARNING: All log messages before absl::InitializeLog|I\d{4} .*(oneDNN custom operations|Could not find cuda)).*\n")


class QuietImport(MetaPathFinder):
    """Imports TensorFlow without those lines; whatever else it prints is kept."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == "tensorflow" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def quietly(module: ModuleType) -> None:
            with _without_noise():
                execute(module)

        spec.loader.exec_module = quietly  # type: ignore[method-assign]
        return spec


@contextmanager
def _without_noise() -> Iterator[None]:
    """Keep what is written to file descriptor 2 until the end, and write then what is no noise."""
    if sys.stderr is None:  # a process without one, such as a daemon: nobody is told anything
        yield
        return
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            kept.seek(0)
            os.write(2, _NOISE.sub(b"", kept.read()))
