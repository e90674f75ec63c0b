"""What the sums of a run are for, as a party follows them: which comes next, what a hospital brings, and what comes of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from ppdl.pooling.subjects.base import Subject
from ppdl.private_head.head import ARRAYS_FILE, JSON_FILE, load_head
from ppdl.records.atomic import replacing
from ppdl.serving.hospitals.invitation import BACKBONE, Invitation


class Course(Protocol):
    """A run's course at one party. What it says is on the disk before a method returns.

    Attributes:
        number: of the sum that is next or under way, from 0; the number of sums when all are taken.
    """

    @property
    def number(self) -> int: ...

    @property
    def subject(self) -> Subject:
        """What the next sum is of."""

    def brings(self) -> Any:
        """Return a hospital's part of the next sum. Raises: DataError, ConfigError."""

    def make(self, total: Any, folder: Path) -> None:
        """Write the parts that the key holder makes of a total. Raises: DataError when nothing can be made of it."""

    def take(self, folder: Path) -> None:
        """Go on to the next sum with the parts in `folder`. Raises: DataError when they are none."""


class HeadCourse:
    """One sum, of which a head is made.

    Args:
        folder: of the run: its `head` is what `ppdl serve` takes. films: gives a hospital's; asked once at most.
    """

    def __init__(self, invitation: Invitation, folder: Path, films: Callable[[], Any]) -> None:
        self.subject, self.brings = invitation.head, cache(films)
        self.make = invitation.head.solver(invitation.model)
        self._folder = folder

    @property
    def number(self) -> int:
        return int((self._folder / "head" / JSON_FILE).exists())

    def take(self, folder: Path) -> None:
        load_head(folder)
        contents = {BACKBONE: self._folder / BACKBONE, **{part: folder / part for part in (ARRAYS_FILE, JSON_FILE)}}
        for name, path in contents.items():
            write_file(self._folder / "head" / name, path.read_bytes())


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)
