"""A federation as one party on a machine of its own follows it: its copy of the network, its films, and where the rounds stand."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.config import construct
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import ConfigError, DataError
from ppdl.evaluation.predictions.calibration import calibrate
from ppdl.experiment.pooled import read_films
from ppdl.experiment.rounds import Rounds, Trainee, check_counts
from ppdl.pooling.sharing import Averaging
from ppdl.pooling.subjects.base import Subject
from ppdl.pooling.subjects.counts import ClassCounts
from ppdl.pooling.terms import Terms
from ppdl.protections.view import plain_view
from ppdl.records.atomic import replacing
from ppdl.records.reading import read_arrays
from ppdl.training.fitting.settings import Training

if TYPE_CHECKING:
    from ppdl.training.federated.local import Local, Network
    from ppdl.training.networks.model import MobileNetV2

_STATE, _TRAINED, _TOTAL = "rounds.npz", "trained.npz", "total.npz"
_ASK = "restore it, or have the key holder call a new run"


@dataclass(frozen=True)
class Plan:
    """What an invitation says of a federation.

    Attributes:
        averaging, training, seed: as of the stage `federate`. Each party trains with all its cores.
        px, prepared_px: sides of the images that the network takes, and that all hospitals prepare.
        network: file of the network that all start from.
    """

    averaging: Averaging
    training: Training
    seed: int
    px: int
    prepared_px: int
    network: Path

    @staticmethod
    def tree(averaging: Averaging, training: Training, seed: int) -> dict[str, Any]:
        """Return what of it an invitation's `plan` holds, as JSON values."""
        rules = {name: value for name, value in asdict(averaging).items() if name != "hospitals"}
        return {**rules, "training": asdict(replace(training, num_threads=None)), "seed": seed}

    @classmethod
    def of(cls, averaging: Averaging, plan: Mapping[str, Any], model: Mapping[str, Any], network: Path) -> Plan:
        """Return what an invitation says. Raises: ConfigError."""
        training: Any = plan.get("training")
        sides: Any = model.get("input_px"), model.get("prepared_px")
        if not isinstance(training, Mapping) or not all(type(value) is int for value in (plan.get("seed"), *sides)):
            raise ConfigError("the invitation must say how to train, the seed and both sides of images: get it from the key holder again")
        px, prepared_px = sides
        return cls(averaging, construct(Training, training, "plan.training"), plan["seed"], px, prepared_px, network)


def write_network(model: MobileNetV2, px: int, num_classes: int, seed: int, path: Path) -> None:
    """Write the network that a federation of plain images of px x px starts from."""
    from ppdl.training.federated.local import begun
    from ppdl.training.networks.predict import save_model

    save_model(begun(model, plain_view(np.zeros((1, px, px), np.uint8)), num_classes, seed), path)


class KeyHolderCourse:
    """Counts of classes, then updates and moments by turns.

    Args:
        terms: of the first sum. folder: of the run, the party's own: what was taken lies in `rounds.npz`.
        say: takes a line after each round.

    Attributes:
        number: of the sum that is next or under way, from 0.
    """

    def __init__(self, terms: Terms, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        self.terms, self.plan, self.folder, self._say = terms, plan, folder, say
        self.number, self._kept = 0, dict[str, Any]()
        if (folder / _STATE).exists():
            self._kept = read_arrays(folder / _STATE, DataError, names=None, missing=_ASK, damaged=_ASK)
            self.number = int(self._kept.pop("number"))

    @property
    def classes(self) -> ClassCounts:
        return ClassCounts.of(self.terms.subject)

    @property
    def subject(self) -> Subject:
        return self.rounds.subject if self.number else self.classes

    def brings(self) -> np.ndarray:
        raise ConfigError("the key holder brings nothing to a sum")

    def make(self, total: np.ndarray, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        np.savez(folder / _TOTAL, total=total, salt=np.frombuffer(secrets.token_bytes(32), np.uint8))  # or its digest tells small counts

    def take(self, folder: Path) -> None:
        path, size = folder / _TOTAL, self.subject.num_sums - (self.number > 0)
        total = read_arrays(path, DataError, names=("total",), missing=_ASK, damaged=_ASK)["total"]
        if total.shape != (size,) or total.dtype.kind not in "if" or not np.isfinite(total).all():
            raise DataError(f"{path} is no total of {size} values, got {total.dtype} {total.shape}: {_ASK}")
        if self.number:
            self.rounds.take(total)
            self._kept |= {"weights": self.rounds.weights, "moments": self.rounds.moments}
            if self.rounds.number == self.plan.averaging.rounds:
                self._end()
        else:
            self.classes.total(total, self.terms.films, self.terms.films)
            check_counts(total, self.classes.class_names)
            self._kept["counts"] = total
        self.number += 1
        with replacing(self.folder / _STATE) as unfinished:
            np.savez(unfinished, number=self.number, **self._kept)
        if self.number > 1 and not self.rounds.measures:
            self._say(f"round {self.rounds.number} of {self.plan.averaging.rounds}{self._told()}")

    @cached_property
    def rounds(self) -> Rounds:
        """Where the rounds stand, once classes are counted."""
        found = Rounds.begin(self.plan.averaging, self.terms.films, self.network)
        if "weights" in self._kept:
            found.weights, found.moments, found.num_opened = self._kept["weights"], self._kept["moments"], self.number - 1
        return found

    @cached_property
    def network(self) -> Network:
        from ppdl.training.federated.local import Network
        from ppdl.training.networks.predict import load_model

        return Network(load_model(self.plan.network), self.plan.training)

    def _told(self) -> str:
        """Return what this party can say of a round, for itself."""
        return ""

    def _end(self) -> None:
        """Keep what comes of the last round."""


class HospitalCourse(KeyHolderCourse):
    """What the key holder follows, with films to train on.

    Args:
        name: of the hospital. films: folder of its prepared images. digest: of the invitation. For the others see `KeyHolderCourse`.
        recipe: adds what `ppdl predict` needs to the folder `network`, which the network of the last round is written to.

    Raises:
        DataError: the films are others than at the first sum; or see `read_films`.
    """

    def __init__(
        self,
        terms: Terms,
        plan: Plan,
        folder: Path,
        say: Callable[[str], None],
        *,
        name: str,
        films: Path,
        digest: str,
        recipe: Callable[[Path], None],
    ) -> None:
        super().__init__(terms, plan, folder, say)
        self.prepared, self.labels = read_films(films, plan.prepared_px, self.classes.class_names)
        self._name, self._digest, self._recipe = name, digest, recipe
        same = str(self._kept.setdefault("films", np.array(self.prepared.sha256))) == self.prepared.sha256
        if not same and self.number <= 2 * plan.averaging.rounds:
            raise DataError(f"{films} holds other films, labels or splits than when the run began: bring those back, or call a new run")

    def brings(self) -> np.ndarray:
        if not self.number:
            return self.labels[self.prepared.rows("train")]
        return Trainee(self._name, self.network, self.folder / _TRAINED, self._digest).brings(self.rounds)

    @cached_property
    def network(self) -> Local:
        from ppdl.training.federated.local import Local
        from ppdl.training.networks.predict import load_model

        own = {self._name: self.prepared.rows("train")}
        few: dict[str, Any] = {"hospitals": list(self.terms.roster), "class_counts": self._kept["counts"], "seed": self.plan.seed}
        view = plain_view(Reduced(self.prepared.images, self.plan.px))
        return Local(load_model(self.plan.network), self.plan.training, view, self.labels, own, **few)

    def _end(self) -> None:
        """Write the network of the last round, with a temperature by this hospital's own validation films."""
        from ppdl.training.networks.predict import save_model

        folder = self.folder / "network"
        folder.mkdir(exist_ok=True)
        rows, logits = self._validated()
        calibrate(self.labels[rows], logits, f"{self._name}'s own validation films").write(folder)
        save_model(self.network.averaged(self.rounds.weights, self.rounds.moments), folder / "model.keras")
        self._recipe(folder)
        (self.folder / _TRAINED).unlink(missing_ok=True)

    def _told(self) -> str:
        """Say how good the network is on the hospital's validation films: no message has that figure, and no round is chosen by it."""
        rows, logits = self._validated()
        return f": {np.mean(logits.argmax(axis=1) == self.labels[rows]):.3f} of this hospital's {len(rows)} validation films are right"

    def _validated(self) -> tuple[np.ndarray, np.ndarray]:
        rows = self.prepared.rows("validation")
        return rows, self.network.logits(rows, self.rounds.weights, self.rounds.moments)
