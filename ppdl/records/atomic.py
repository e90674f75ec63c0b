"""Put a file in place only when it is whole and on the disk, so that no kill and no power cut leaves half of one that looks finished."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the name `path` when the block ends, and vanishes if it fails.

    It has the ending of `path`, which some writers ask for, and is the same each time, so that what a kill leaves of it is written over by
    the next run. One process at a time may write a path.
    """
    partial = partial_path(path)
    try:
        yield partial
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Return where the unfinished file lies, and what a kill left of it."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


def put(finished: Path, path: Path) -> None:
    """Give a finished file the name `path`, at once; a link there is replaced, never written through."""
    sync(finished)
    finished.replace(path)
    sync(path.parent)


def move_folder(folder: Path, path: Path) -> None:
    """Give a finished folder the name `path`, which may be an empty folder. Cost: a rename, or one copy to another file system."""
    try:
        folder.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = path.with_name(path.name + ".copying")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        copy.replace(path)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
