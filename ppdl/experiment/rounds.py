"""Where a federation stands, and what a hospital brings to its next sum: the same in one process and on machines of their own.

Source: FedAvg: McMahan et al., AISTATS 2017, algorithm 1; here with AdamW at the hospitals, whose moments stay there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdl.errors import DataError
from ppdl.pooling.sharing import Averaging
from ppdl.pooling.subjects.mean import MeanSums
from ppdl.records.atomic import replacing
from ppdl.records.reading import read_arrays
from ppdl.training.federated.schedule import GROWTH, largest_update, moment_ranges, num_steps, rate_of
from ppdl.training.fitting.settings import Training

if TYPE_CHECKING:
    from ppdl.training.federated.local import Local, Network

MOMENT_BITS = 32  # a layer's channels may have variances of 0.8 beside mean squares of 7,900, and share a range
_AGAIN = (
    "the rounds so far are of no use without it: restore it, or begin anew; in one process by deleting it and the federation's folder "
    "below unfinished/, on machines of their own by a new call"
)


@dataclass
class Rounds:
    """Say what is summed next. That follows from what was opened so far, for every party alike.

    Attributes:
        averaging, training: as all agreed.
        films: training films by hospital, as declared.
        sizes: channels of each BatchNorm layer.
        weights: float32 (num_weights,). moments: of what enters BatchNorm under these, float64, see `Local.moments`.
        num_opened: sums of weights and of moments so far, two a round.
    """

    averaging: Averaging
    training: Training
    films: Mapping[str, int]
    sizes: list[int]
    weights: np.ndarray
    moments: np.ndarray
    num_opened: int = 0

    @classmethod
    def begin(cls, averaging: Averaging, films: Mapping[str, int], network: Network) -> Rounds:
        """Return the start: the network has the weights and moments that it was built with."""
        return cls(averaging, network.training, films, network.sizes, network.weights, network.moments_before)

    @property
    def number(self) -> int:
        """Of the round that is next or under way, from 0; the number of rounds after the last."""
        return self.num_opened // 2

    @property
    def measures(self) -> bool:
        """Whether moments are summed next, and not updates."""
        return self.num_opened % 2 == 1

    @property
    def rate(self) -> float:
        return rate_of(self.number, self.averaging.rounds, self.training.learning_rate)

    @property
    def subject(self) -> MeanSums:
        """What is summed next."""
        sha256 = hashlib.sha256(self.weights.tobytes()).hexdigest()
        if self.measures:
            return MeanSums(f"moments {self.number}", sha256, MOMENT_BITS, moment_ranges(self.sizes, np.split(self.moments, 2)[1]))
        steps = num_steps(self.films.values(), self.training.batch_size, self.averaging.epochs)
        return MeanSums(f"update {self.number}", sha256, self.averaging.bits, ((len(self.weights), largest_update(self.rate, steps)),))

    def take(self, mean: np.ndarray) -> None:
        """Go on from what was opened."""
        if self.measures:
            self.moments = mean
        else:
            self.weights = (self.weights + mean).astype(np.float32)
        self.num_opened += 1


@dataclass(frozen=True)
class Trainee:
    """One hospital of a federation.

    Attributes:
        name: of the hospital. local: the network that it trains.
        path: of what it trained last, a file that never leaves it. digest: of all that decides what is learned.
    """

    name: str
    local: Local
    path: Path
    digest: str

    def brings(self, rounds: Rounds) -> np.ndarray:
        """Return this hospital's part of the next sum, float64: its update, or the moments of its films.

        Raises: DataError when moments are beyond the range that all agreed on.
        """
        if not rounds.measures:
            return self.trained(rounds) - rounds.weights.astype(np.float64)
        found = self.local.moments(self.name, rounds.weights)
        if rounds.subject.clipped({self.name: found}):
            raise DataError(
                f"what enters a BatchNorm layer grew more than {GROWTH:g} times in round {rounds.number + 1}: lower training.learning_rate"
            )
        return found

    def trained(self, rounds: Rounds) -> np.ndarray:
        """Return the hospital's weights after its training in a round: those that it has, where a kill came in between."""
        number = rounds.number
        if number or self.path.exists():
            kept = read_arrays(self.path, DataError, names=None, missing=_AGAIN, damaged=_AGAIN)
            of = str(kept.pop("digest")), int(kept.pop("number"))
            if of == (self.digest, number):
                return kept["weights"]
            if number and of != (self.digest, number - 1):
                raise DataError(f"{self.path} is not what {self.name} had after round {number}: {_AGAIN}")
        before = [kept[f"arr_{i}"] for i in range(len(kept) - 1)] if number else None
        found = self.local.train(self.name, rounds.weights, before, number=number, epochs=rounds.averaging.epochs, rate=rounds.rate)
        with replacing(self.path) as unfinished:
            np.savez(unfinished, *found.optimizer, number=number, digest=self.digest, weights=found.weights)
        return found.weights


def check_counts(counts: np.ndarray, class_names: Sequence[str]) -> None:
    """Refuse counts of all hospitals' training films, (num_classes,), that lack a class. Raises: DataError."""
    if missing := [name for name, count in zip(class_names, counts, strict=True) if count < 1]:
        raise DataError(f"every class needs a training film at some hospital; there is none of {', '.join(missing)}")


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add what the block takes to a part's seconds."""
    start = time.perf_counter()
    yield
    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start
