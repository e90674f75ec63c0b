"""Federated averaging: rounds in which hospitals train from the same weights, and only sums over hospitals are opened.

Before the first round the films of each class are counted, so that the federation as a whole has every class although a hospital may not.
Each round sums updates of the weights, then, under the new weights, the moments of what enters BatchNorm. Every sum is a run of
`ppdl.pooling` of its own, under a fresh key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ppdl.config.cost import folder_bytes
from ppdl.crypto.keys.keyfile import create_private_dir
from ppdl.errors import CryptoError, PpdlError
from ppdl.experiment.rounds import Rounds, Trainee, check_counts, timed
from ppdl.pooling.board import Board
from ppdl.pooling.hospital import KEPT, kept
from ppdl.pooling.opening import abandon_run, open_total
from ppdl.pooling.rehearsal import call_run, rehearse
from ppdl.pooling.sharing import Averaging
from ppdl.pooling.subjects.base import Subject
from ppdl.pooling.subjects.counts import ClassCounts
from ppdl.pooling.subjects.mean import MeanSums
from ppdl.pooling.terms import Member, Terms
from ppdl.protections.view import View
from ppdl.training.fitting.state import State, digest_of, read_state, remove_state, write_state

if TYPE_CHECKING:
    from ppdl.training.federated.local import Local

_FLOAT64 = 1e-5  # of the bound, for what float64 rounds itself


@dataclass(frozen=True, eq=False)
class Averaged:
    """What all have after a round, or after the last.

    Attributes:
        weights: float32 (num_weights,). moments: of what enters BatchNorm under these, float64, see `Local.moments`.
        figures: of the round: clipped, the share of all updates' values beyond their range, and seconds.
        history: one row a round, with what `after` said of it.
    """

    weights: np.ndarray
    moments: np.ndarray
    figures: Mapping[str, float]
    history: Sequence[Mapping[str, Any]] = ()


class Sum(Protocol):
    """Return what the sums over all hospitals stand for, given what each brings."""

    def __call__(self, subject: Subject, brought: Mapping[str, Any]) -> Any: ...


@dataclass
class EncryptedSums:
    """Sum under encryption, in one process: each sum is a run with a key pair of its own, whose private part is gone when it is opened.

    Attributes:
        board: of the run at hand. private_dir: of the key holder; `hospitals` in it has a folder for each hospital.
        sent: bytes that all hospitals released so far. seconds: to the signed sum, and of its opening.
    """

    board: Board
    private_dir: Path
    roster: Mapping[str, Member]
    key_bits: int
    allow_insecure_key: bool
    project: Path
    sent: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"pool": 0.0, "open": 0.0})

    def figures(self) -> dict[str, float]:
        """Return what was sent and spent since the last call: MB by a hospital, on average, and seconds."""
        found = {"mb_sent": self.sent / 1e6 / len(self.roster), **{f"{part}_s": spent for part, spent in self.seconds.items()}}
        self.sent, self.seconds = 0, {"pool": 0.0, "open": 0.0}
        return found

    def __call__(self, subject: Subject, brought: Mapping[str, Any]) -> np.ndarray:
        """Raises: CryptoError when the opened total is not that of the hospitals' integers in the clear."""
        wanted, hospitals = Terms("", self.key_bits, subject, self.roster), self.private_dir / "hospitals"
        with suppress(PpdlError):  # there is none
            found = self.board.read_terms()
            if found.tree != replace(wanted, fingerprint=found.fingerprint).tree:
                self._end(found)  # of another sum, that was killed
        with timed(self.seconds, "pool"):
            terms = call_run(self.board, wanted, self.private_dir, allow_insecure_key=self.allow_insecure_key, project=self.project)
            rehearse(self.board, terms, brought, hospitals)
        self.sent += folder_bytes(self.board.folder / "ciphertexts")
        with timed(self.seconds, "open"):
            total = np.load(open_total(self.board, terms, self.private_dir, _keep) / "total.npy", allow_pickle=False)
        clear = np.sum([subject.integers(name, own, terms.films) for name, own in brought.items()], axis=0)
        if not np.array_equal(total, subject.total(clear, terms.films, brought.keys())):
            raise CryptoError(f"the opened total of run {terms.fingerprint[:16]} is not that of the hospitals' {subject.kind} sums")
        self._end(terms)
        return total

    def _end(self, terms: Terms) -> None:
        """Remove all that is left of a run: its board first, or who is killed here would go on without what hospitals hold."""
        abandon_run(self.board, self.private_dir)
        for name in terms.roster:
            for what in KEPT:
                kept(self.private_dir / "hospitals" / name, name, terms, what).unlink(missing_ok=True)


def _keep(total: np.ndarray, folder: Path) -> None:
    create_private_dir(folder)
    np.save(folder / "total.npy", total)


def digest_of_federation(
    view: View, labels: np.ndarray, rows: Mapping[str, np.ndarray], parts: Mapping[str, Any], weights: Sequence[np.ndarray]
) -> str:
    """Return a digest of all that decides what hospitals learn; the number of threads does not.

    Args:
        parts: training, and whatever else is chosen. weights: before the first round.
    """
    training = replace(parts["training"], num_threads=None)
    return digest_of(view, labels, list(rows.values()), {**parts, "training": training, "hospitals": list(rows)}, weights)


def count_classes(total: Sum, labels: Mapping[str, np.ndarray], class_names: tuple[str, ...]) -> np.ndarray:
    """Return how many training films of each class all hospitals have together. Raises: DataError when there is none of a class."""
    counts: np.ndarray = total(ClassCounts(class_names), labels)
    check_counts(counts, class_names)
    return counts


@dataclass(frozen=True, eq=False)
class Federation:
    """Hospitals of one process, and how they average.

    Attributes:
        name: of the federation.
        local: the network that they train in turn.
        films: training films by hospital, as declared.
        averaging: the plan.
        total: sums for them.
        private_dir: with a folder for each hospital, which what it trained never leaves.
        digest: of all that decides what is learned.
    """

    name: str
    local: Local
    films: Mapping[str, int]
    averaging: Averaging
    total: Sum
    private_dir: Path
    digest: str

    def run(self, state_dir: Path, after: Callable[[int, Averaged], dict[str, Any]]) -> Averaged:
        """Do all rounds, from the first, or from where a killed federation stopped.

        Args:
            state_dir: of this federation alone. After each round it holds weights, moments and history.
            after: called after each round, from 0; returns its row of the history.
        """
        state, started = read_state(state_dir, self.digest), time.perf_counter()
        history = list(state.history) if state else []
        rounds = Rounds.begin(self.averaging, self.films, self.local)
        if state is not None:
            (rounds.weights, rounds.moments), rounds.num_opened = state.model, 2 * len(history)
        for number in range(len(history), self.averaging.rounds):
            figures = self._round(rounds)
            history.append({"epoch": number, **after(number, Averaged(rounds.weights, rounds.moments, figures))})
            seconds = time.perf_counter() - started
            write_state(state_dir, self.digest, State(history, number, [], [rounds.weights, rounds.moments], [], seconds))
        return Averaged(rounds.weights, rounds.moments, {}, history)

    def _round(self, rounds: Rounds) -> dict[str, float]:
        figures, trainees = {"learning_rate": rounds.rate, "train_s": 0.0, "moments_s": 0.0}, self._trainees
        for part in ("train_s", "moments_s"):
            subject = rounds.subject
            with timed(figures, part):
                brought = {name: trainee.brings(rounds) for name, trainee in trainees.items()}
            if not rounds.measures:
                figures["clipped"] = subject.clipped(brought)
            rounds.take(self._mean(subject, brought))
        return figures

    def _mean(self, subject: MeanSums, brought: Mapping[str, np.ndarray]) -> np.ndarray:
        """Raises: CryptoError when rounding moved the mean by more than it can."""
        mean: np.ndarray = self.total(subject, brought)
        off = np.abs(mean - subject.clear_mean(brought, self.films))
        if (off > subject.rounding(self.films, brought.keys()) * (1 + _FLOAT64)).any():
            raise CryptoError(f"the mean of the hospitals' {subject.what} is further from that in floating point than rounding can be")
        return mean

    def clear(self, state_dir: Path) -> None:
        """Remove what a finished federation needs no more: hospitals keep neither their last weights nor their optimizers."""
        for trainee in self._trainees.values():
            trainee.path.unlink(missing_ok=True)
        remove_state(state_dir)

    @property
    def _trainees(self) -> dict[str, Trainee]:
        paths = {name: self.private_dir / name / f"{name}.{self.name}.npz" for name in self.films}
        return {name: Trainee(name, self.local, path, self.digest) for name, path in paths.items()}
