"""The sums of a linear head: over films of fixed features, in one run, exactly. With privacy, over shortened features and with noise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ppdl.errors import ConfigError, DataError
from ppdl.pooling.privacy.noise import Noise, kept_rows
from ppdl.pooling.privacy.promise import Privacy
from ppdl.pooling.ridge import fit_ridge
from ppdl.pooling.sharing import FILMS_A_FEATURE
from ppdl.pooling.subjects import base
from ppdl.pooling.subjects.base import Contribution, Subject, films_of
from ppdl.pooling.sums import Sums, check_total, num_sums, slot_bits, sums_of


@dataclass(frozen=True, eq=False)
class Films:
    """What a hospital brings.

    Attributes:
        features: integers (num_films, num_features). labels: (num_films,), numbers of classes.
        digests: SHA-256 of each film's pixels, for the ledger; None: a rehearsal on one owner's films, which no ledger protects.
        groups: of each film, (num_films,): its patient, with near duplicates. A run with privacy needs them.
    """

    features: np.ndarray
    labels: np.ndarray
    digests: Sequence[bytes] | None
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class HeadSums(Subject):
    """Sums that a head follows from, see `ppdl.pooling.sums`.

    Attributes:
        class_names: of the head, in their order.
        num_features, feature_bits: of what is summed.
        backbone_sha256: of the public backbone that makes the features.
        strengths: regularisations that the key holder chooses from, by generalised cross-validation on the total.
        accept_membership: whether a total over fewer than 16 films a feature may be opened, although it tells who is in it.
        privacy: what the total promises to each patient; None: nothing.
    """

    class_names: Sequence[str]
    num_features: int
    feature_bits: int
    backbone_sha256: str
    strengths: Sequence[float]
    accept_membership: bool
    privacy: Privacy | None = None

    kind = "head"

    @property
    def num_sums(self) -> int:
        return num_sums(len(self.class_names), self.num_features)

    @property
    def least_films(self) -> int:
        """The fewest films that a total, or the difference of two, may be over."""
        return 0 if self.accept_membership else FILMS_A_FEATURE * self.num_features

    def noise(self, num_hospitals: int) -> Noise | None:
        """Return the noise that each hospital of the roster adds. Raises: ConfigError."""
        if self.privacy is None:
            return None
        return Noise(self.privacy, num_hospitals, len(self.class_names), self.num_features, self.feature_bits)

    def slot_bits(self, films: base.Films) -> int:
        num_films = films_of(films, films)
        if (noise := self.noise(len(films))) is not None:
            return (2 * int(noise.offset(num_films, len(films)).max())).bit_length()
        return slot_bits(num_films, self.feature_bits)

    def check_size(self, films: base.Films, came: Collection[str]) -> None:
        if self.privacy and len(came) < (need := len(films) - self.privacy.colluders):
            raise ConfigError(f"{len(came)} hospitals add noise, and the privacy of this run needs that of {need}: wait for the others")
        if (num_films := films_of(films, came)) < (least := self.least_films):
            raise ConfigError(
                f"{num_films} films are summed over {self.num_features} features, and below {FILMS_A_FEATURE} films a feature ({least}) "
                "the key holder can tell whose films are in the total: take fewer features (backbone.num_features) or more films, or say "
                "pooling.accept_membership=true"
            )

    def integers(self, name: str, brought: Films, films: base.Films) -> np.ndarray:
        features, labels, groups = brought.features, brought.labels, brought.groups
        if len(features) != films[name]:
            raise DataError(f"{name} declared {films[name]} films and brings {len(features)}: call a run with the right number")
        if features.shape[1] != self.num_features:
            raise ConfigError(f"{name} brings {features.shape[1]} features a film, and the terms say {self.num_features}")
        if self.privacy and (groups is None or not kept_rows(groups, self.privacy.films_per_patient).all()):
            raise DataError(
                f"{name} must leave out films of patients with more than privacy.films_per_patient={self.privacy.films_per_patient}, "
                "and say whose each film is"
            )
        sums = sums_of(features, labels, num_classes=len(self.class_names), feature_bits=self.feature_bits)
        if (noise := self.noise(len(films))) is None:
            return sums.flat()
        return noise.sums(features, labels) + noise.draw() + noise.offset(len(features), 1)

    def total(self, opened: np.ndarray, films: base.Films, came: Collection[str]) -> Sums:
        num_films = films_of(films, came)
        if (noise := self.noise(len(films))) is not None:
            return noise.opened(opened - noise.offset(num_films, len(came)), num_films, len(came))
        sizes = {"num_classes": len(self.class_names), "num_features": self.num_features, "feature_bits": self.feature_bits}
        total = Sums.from_flat(opened, **sizes)
        check_total(total, num_films)
        return total

    def ledger(self, brought: Films) -> Contribution | None:
        if brought.digests is None:
            return None
        return Contribution(brought.digests, [self.class_names[label] for label in brought.labels], self.least_films)

    def solver(self, backbone: Mapping[str, Any]) -> Callable[[Sums, Path], None]:
        """Return what makes a head of a total and saves it; `backbone`: what made the features, see PublicHead."""

        def solve(total: Sums, folder: Path) -> None:
            head, _ = fit_ridge(total, self.strengths, class_names=self.class_names, backbone=backbone)
            head.save(folder)

        return solve

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        return cls(**{**tree, "privacy": Privacy(**tree["privacy"]) if tree.get("privacy") else None})
