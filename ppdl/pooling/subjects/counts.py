"""How many films of each class all hospitals have together: nobody says how many of which it has itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ppdl.errors import DataError
from ppdl.pooling.subjects.base import Films, Subject, films_of


@dataclass(frozen=True)
class ClassCounts(Subject):
    """Count films by class. A hospital brings the labels of its films, (num_films,) integers below the number of `class_names`."""

    class_names: Sequence[str]

    kind = "class counts"

    @property
    def num_sums(self) -> int:
        return len(self.class_names)

    def slot_bits(self, films: Films) -> int:
        return max(2, films_of(films, films).bit_length())

    def integers(self, name: str, brought: np.ndarray, films: Films) -> np.ndarray:
        if len(brought) != films[name]:
            raise DataError(f"{name} declared {films[name]} films and brings {len(brought)}: call a run with the right number")
        if brought.min() < 0 or brought.max() >= self.num_sums:
            raise DataError(f"labels must lie in [0, {self.num_sums}), got {brought.min()} to {brought.max()}")
        return np.bincount(brought, minlength=self.num_sums).astype(np.int64)

    def total(self, opened: np.ndarray, films: Films, came: Collection[str]) -> np.ndarray:
        if opened.sum() != films_of(films, came):
            raise DataError("the opened total is of no films: it breaks the rule that the films of all classes add up to those declared")
        return opened
