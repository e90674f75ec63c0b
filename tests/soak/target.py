"""What the fuzz knows of one reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ppdl.errors import PpdlError
from tests.soak.mutate import damaged_bytes


@dataclass(frozen=True)
class Target:
    """A reader, what it is fed, and how it may refuse.

    Attributes:
        weight: share of the cases.
    """

    name: str
    strategy: st.SearchStrategy
    read: Callable[[Any], None]
    error: type[PpdlError]
    weight: int


def one_of_files(contents: dict[str, bytes]) -> st.SearchStrategy:
    """Draw the name of one of several files and damaged content for it."""
    return st.sampled_from(sorted(contents)).flatmap(lambda name: st.tuples(st.just(name), damaged_bytes(contents[name])))


def contents_of(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def restore(folder: Path, good: dict[str, bytes]) -> None:
    """Give a folder its good files back."""
    for name, data in good.items():
        (folder / name).write_bytes(data)
