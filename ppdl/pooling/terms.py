"""What all parties of a run agree on beforehand, and each pins by itself: roster, key, features, rules."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ppdl.crypto.arithmetic.packing import WidePacking
from ppdl.errors import ConfigError, PpdlError
from ppdl.pooling.privacy.noise import Noise
from ppdl.pooling.privacy.promise import Privacy
from ppdl.pooling.sharing import FILMS_A_FEATURE, LEAST_HOSPITALS
from ppdl.pooling.sums import num_sums, slot_bits

_DOMAIN = b"PPDL-POOL/1 terms\0"
NAME = "[a-z0-9][a-z0-9_-]{0,39}"


@dataclass(frozen=True)
class Member:
    """A hospital of the roster: its Ed25519 public key (hex), and how many films it declares."""

    signing_key: str
    num_films: int


@dataclass(frozen=True)
class Terms:
    """Say what a run is. A key pair serves one run, so its fingerprint names the run.

    Attributes:
        fingerprint: of the run's public key. key_bits: of it.
        class_names: of the head, in their order.
        num_features, feature_bits: of what is summed.
        backbone_sha256: of the public backbone that makes the features.
        strengths: regularisations that the key holder chooses from, by generalised cross-validation on the total.
        accept_membership: whether a total over fewer than 16 films a feature may be opened, although it tells who is in it.
        roster: by name.
        privacy: what the total promises to each patient; None: nothing.

    Raises:
        ConfigError: names the rule that is broken.
    """

    fingerprint: str
    key_bits: int
    class_names: Sequence[str]
    num_features: int
    feature_bits: int
    backbone_sha256: str
    strengths: Sequence[float]
    accept_membership: bool
    roster: Mapping[str, Member]
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        if wrong := [name for name in self.roster if not re.fullmatch(NAME, name)]:
            rule = "1 to 40 lower-case letters, digits, - and _, the first no sign"
            raise ConfigError(f"the name of a hospital must be {rule}, got {ascii(wrong[0])[:60]}; rename it")
        if len(self.roster) < LEAST_HOSPITALS:
            raise ConfigError(
                f"a run needs at least {LEAST_HOSPITALS} hospitals, for of two each knows the other's sums by subtraction; "
                f"got {', '.join(self.roster) or 'none'}"
            )
        if len({member.signing_key for member in self.roster.values()}) < len(self.roster):
            raise ConfigError("each hospital signs with a key of its own, and two of the roster have the same")
        if empty := [name for name, member in self.roster.items() if member.num_films < 1]:
            raise ConfigError(f"hospital {empty[0]} declares no film: leave it out of the roster")
        self.check_size(self.roster)
        self.packing  # noqa: B018 - its rules

    @property
    def least_films(self) -> int:
        """The fewest films that a total, or the difference of two, may be over."""
        return 0 if self.accept_membership else FILMS_A_FEATURE * self.num_features

    def check_size(self, contributors: Collection[str]) -> None:
        """Refuse so few films that their total tells who is among them, and so few hospitals that noise lacks. Raises: ConfigError."""
        came = len(contributors)
        if self.privacy and came < (need := len(self.roster) - self.privacy.colluders):
            raise ConfigError(f"{came} hospitals add noise, and the privacy of this run needs that of {need}: wait for the others")
        if (num_films := self.declared(contributors)) < (least := self.least_films):
            raise ConfigError(
                f"{num_films} films are summed over {self.num_features} features, and below {FILMS_A_FEATURE} films a feature ({least}) "
                "the key holder can tell whose films are in the total: take fewer features (backbone.num_features) or more films, or say "
                "pooling.accept_membership=true"
            )

    def declared(self, contributors: Iterable[str]) -> int:
        """Count the films that some hospitals declare."""
        return sum(self.roster[name].num_films for name in contributors)

    @property
    def num_sums(self) -> int:
        return num_sums(len(self.class_names), self.num_features)

    @cached_property
    def noise(self) -> Noise | None:
        """The noise that each hospital adds. Raises: ConfigError."""
        if self.privacy is None:
            return None
        return Noise(self.privacy, len(self.roster), len(self.class_names), self.num_features, self.feature_bits)

    @cached_property
    def packing(self) -> WidePacking:
        """How sums are packed: no sum over the films of the whole roster leaves its slot, noise and what makes it positive included."""
        try:
            if self.noise is not None:
                largest = 2 * int(self.noise.offset(self.declared(self.roster), len(self.roster)).max())
                return WidePacking(self.key_bits, largest.bit_length())
            return WidePacking(self.key_bits, slot_bits(self.declared(self.roster), self.feature_bits))
        except PpdlError as error:
            raise ConfigError(f"sums over {self.declared(self.roster)} films of {self.feature_bits}-bit features: {error}") from None

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of all terms: every signed statement of the run holds it."""
        return hashlib.sha256(_DOMAIN + canonical(self.tree)).hexdigest()

    @property
    def tree(self) -> dict[str, Any]:
        """The terms as JSON values."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Terms:
        """Return the terms that `tree` holds. Raises: ConfigError."""
        try:
            roster = {str(name): Member(**member) for name, member in tree["roster"].items()}
            privacy = Privacy(**tree["privacy"]) if tree.get("privacy") else None
            terms = cls(**{**tree, "roster": roster, "privacy": privacy})
        except (TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"these are no terms of a run ({type(error).__name__}): get them from who calls the run") from None
        return terms


def canonical(tree: Any) -> bytes:
    """Return JSON values as the one text that is hashed and signed."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
