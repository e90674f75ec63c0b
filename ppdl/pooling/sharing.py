"""Films shared out to hospitals: a federation has them apart, and an experiment on one set of images has to say whose they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le, MinLen

from ppdl.errors import ConfigError, DataError
from ppdl.pooling.privacy.promise import Privacy
from ppdl.records.atomic import replacing
from ppdl.records.reading import read_object
from ppdl.records.typecheck import Count, Positive

LEAST_HOSPITALS = 3
FILMS_A_FEATURE = 16  # films for each feature below which a total tells who is in it; docs/threat-model.md says what that floor is not
BY_CLASS = "class"


@dataclass(frozen=True)
class Pooling:
    """Say which hospitals pool their films, and on which terms.

    Args:
        hospitals: A number, at least 3: patients are shared out at random, with like shares of each class; "class": a hospital for each
            class; else a column of dataset.patients, which names the hospital of each film. Films of one patient stay together.
        strengths: Regularisations that the key holder chooses from, by generalised cross-validation on the total alone.
        accept_membership: true: a total of fewer than 16 films a feature is opened too, which tells the key holder who is in it.
        privacy: What the total promises to each patient, kept by noise; None: nothing.

    Raises:
        ConfigError: An argument breaks its rule.
    """

    hospitals: int | str
    strengths: Annotated[tuple[Positive, ...], MinLen(1)]
    accept_membership: bool
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        _check_hospitals(self.hospitals)


@dataclass(frozen=True)
class Averaging:
    """Say which hospitals train one network together, by federated averaging on encrypted sums.

    Args:
        hospitals: As of `Pooling`.
        rounds: How often all train, and their updates are summed.
        epochs: Passes over its own training films that each hospital makes in a round.
        bits: Of each value of an update; each bit less makes what hospitals send smaller by a sixteenth or so.

    Raises:
        ConfigError: An argument breaks its rule.
    """

    hospitals: int | str
    rounds: Count
    epochs: Count
    bits: Annotated[int, Ge(4), Le(24)]

    privacy: ClassVar[None] = None  # no noise: what sums of updates would need for a promise was not worked out

    def __post_init__(self) -> None:
        _check_hospitals(self.hospitals)


@dataclass(frozen=True)
class Shares:
    """Whose films are whose.

    Attributes:
        named: a table names the hospital of each film; else one owner shared its films out, to rehearse.
        rows: by hospital, numbers of its films among the prepared images, ascending.
    """

    named: bool
    rows: Mapping[str, Sequence[int]]

    @property
    def num_films(self) -> int:
        return sum(map(len, self.rows.values()))

    def write(self, path: Path) -> None:
        """Write the shares, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps({"named": self.named, "rows": self.rows}) + "\n", encoding="ascii")

    @classmethod
    def read(cls, path: Path) -> Shares:
        """Read what `write` wrote. Raises: DataError."""
        again = "run the stage hospitals again"
        tree = read_object(path, DataError, missing=again, damaged=again)
        try:
            return cls(bool(tree["named"]), {str(name): list(map(int, rows)) for name, rows in tree["rows"].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} does not say whose films are whose ({type(error).__name__}): {again}") from None


def share_at_random(rows: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_hospitals: int, seed: int) -> dict[str, list[int]]:
    """Share films out to hospital_1, hospital_2, ...: groups whole, as many films and like shares of each class.

    Args:
        rows, labels, groups: of each film, (num_films,).

    Raises:
        DataError: there are fewer groups than hospitals.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if (num_groups := len(np.unique(groups))) < num_hospitals:
        raise DataError(f"{num_groups} patients (or clusters of near duplicates) cannot be shared out to {num_hospitals} hospitals")
    try:
        parts = list(StratifiedGroupKFold(num_hospitals, shuffle=True, random_state=seed).split(labels, labels, groups))
    except ValueError as error:
        raise DataError(f"the films cannot be shared out to {num_hospitals} hospitals: {error}") from error
    return _checked({f"hospital_{number}": rows[part].tolist() for number, (_, part) in enumerate(parts, 1)})


def share_by_name(rows: np.ndarray, groups: np.ndarray, names: Sequence[str], *, divided: bool) -> dict[str, list[int]]:
    """Share films out by a name that each has.

    Args:
        rows, groups, names: of each film, (num_films,).
        divided: a group may have several names, and goes where most of its films do; else that is refused.

    Raises:
        DataError: a group has several names, or two names become one hospital.
    """
    found: dict[str, list[int]] = {}
    spelled: dict[str, str] = {}
    order, array = np.argsort(groups, kind="stable"), np.asarray(names, dtype=object)
    for part in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        own, counts = np.unique(array[part].astype(str), return_counts=True)
        if len(own) > 1 and not divided:
            raise DataError(
                f"films of one patient (or near duplicates) are at {' and at '.join(own.tolist())}: they must be at one hospital, for "
                "otherwise a patient counts twice; correct the column, or lower split.near_duplicate_bits"
            )
        name = str(own[counts.argmax()])
        slug = re.sub("[^a-z0-9-]+", "_", name.lower()).strip("_")
        if spelled.setdefault(slug, name) != name:
            raise DataError(f"hospitals {spelled[slug]!r} and {name!r} would both be called {slug!r}: rename one")
        found.setdefault(slug, []).extend(rows[part].tolist())
    return _checked({name: sorted(found[name]) for name in sorted(found)})


def missing_classes(shares: Mapping[str, Sequence[int]], labels: np.ndarray, class_names: Sequence[str]) -> dict[str, list[str]]:
    """Return the classes that some hospitals have no film of. `labels` are those of all prepared images."""
    has = {name: set(labels[list(rows)].tolist()) for name, rows in shares.items()}
    lacks = {name: [said for label, said in enumerate(class_names) if label not in found] for name, found in has.items()}
    return {name: classes for name, classes in lacks.items() if classes}


def _check_hospitals(hospitals: int | str) -> None:
    if isinstance(hospitals, int) and not isinstance(hospitals, bool) and hospitals < LEAST_HOSPITALS:
        raise ConfigError(f"hospitals must be at least {LEAST_HOSPITALS}: of two each knows the other's sums; got {hospitals}")


def _checked(shares: dict[str, list[int]]) -> dict[str, list[int]]:
    if empty := [name for name, rows in shares.items() if not rows]:
        raise DataError(f"{empty[0]} would have no film: take fewer hospitals, or more patients")
    if len(shares) < LEAST_HOSPITALS:
        raise DataError(f"a run needs at least {LEAST_HOSPITALS} hospitals, and the films are of {', '.join(shares) or 'none'}")
    return shares
