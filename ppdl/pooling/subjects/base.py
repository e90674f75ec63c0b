"""The part of a run's terms that says what is summed. All else of a run, from commitments to the opening, is the same for every kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ppdl.errors import ConfigError

Films = Mapping[str, int]  # by hospital of the whole roster, how many films it declared


@dataclass(frozen=True)
class Contribution:
    """What a hospital's ledger keeps of a contribution and compares.

    Attributes:
        films: SHA-256 of each film's pixels. classes: of each film, its name.
        least_films: the fewest that the difference of two totals may be over.
    """

    films: Sequence[bytes]
    classes: Sequence[str]
    least_films: int


@dataclass(frozen=True)
class Subject(ABC):
    """Say what a run sums. Every hospital's integers, and so every sum, are 0 or above.

    Attributes:
        kind: what the terms call it.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def num_sums(self) -> int:
        """How many sums a hospital encrypts."""

    @abstractmethod
    def slot_bits(self, films: Films) -> int:
        """Return the bits that no sum over the whole roster exceeds. Raises: ConfigError when this subject cannot be summed by it."""

    def check_size(self, films: Films, came: Collection[str]) -> None:  # noqa: B027 - no rule beyond the three hospitals of every run
        """Refuse to sum what so few hospitals or films bring. Raises: ConfigError."""

    @abstractmethod
    def integers(self, name: str, brought: Any, films: Films) -> np.ndarray:
        """Return what a hospital encrypts: int64 (num_sums,).

        Raises:
            DataError, ConfigError: what it brings is not what it declared, or not of these terms.
        """

    @abstractmethod
    def total(self, opened: np.ndarray, films: Films, came: Collection[str]) -> Any:
        """Return what the opened sums, int64 (num_sums,), of those who came stand for. Raises: DataError when no films have them."""

    def ledger(self, brought: Any) -> Contribution | None:
        """Return what the hospital's ledger is to compare; None: it keeps none of this."""
        return None

    @classmethod
    def of(cls, subject: Subject) -> Self:
        """Return a subject that must be of this kind. Raises: ConfigError when it is of another."""
        if not isinstance(subject, cls):
            raise ConfigError(f"this needs a run that sums for {cls.kind}, and the terms are of one for {subject.kind}")
        return subject

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """Return the subject that JSON values describe. Raises: TypeError, ConfigError."""
        return cls(**tree)


def films_of(films: Films, came: Collection[str]) -> int:
    """Count the films that some hospitals declared."""
    return sum(films[name] for name in came)
