"""A listing of files: what tells in a second that some were added, changed or removed, without reading them."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ppdl.datasets.sources.folder import UNPACKED_BESIDE
from ppdl.records.atomic import replacing

_DEPTH = 4  # of folders: ROOT/COVID-19_Radiography_Dataset/CLASS/images


def write_listing(sources: Sequence[Path], path: Path) -> None:
    """Write number and digest of all files in `sources`, files or folders: of their names, sizes and times of change.

    Raises:
        FileNotFoundError: a source is missing.
    """
    digest, num_files = hashlib.sha256(), 0
    for number, source in enumerate(sources):
        for name, stat in _files(source):
            digest.update(f"{number}\0{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
            num_files += 1
    with replacing(path) as partial:
        partial.write_text(json.dumps({"num_files": num_files, "sha256": digest.hexdigest()}) + "\n")


def _files(source: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files of a folder by name, those of its folders included, without what data sets leave out; or the one file."""
    if depth == 0 and not source.is_dir():
        yield "", source.stat()
        return
    with os.scandir(source) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.name == UNPACKED_BESIDE:
            continue
        if not entry.is_dir():
            if entry.is_file():
                yield prefix + entry.name, entry.stat()
        elif depth < _DEPTH:
            yield from _files(Path(entry.path), f"{prefix}{entry.name}/", depth + 1)
