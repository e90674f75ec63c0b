"""What all parties of a run agree on beforehand, and each pins by itself: roster, key, what is summed, by which rules."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ppdl.crypto.arithmetic.packing import WidePacking
from ppdl.errors import ConfigError, PpdlError
from ppdl.pooling.sharing import LEAST_HOSPITALS
from ppdl.pooling.subjects.base import Subject, films_of
from ppdl.pooling.subjects.counts import ClassCounts
from ppdl.pooling.subjects.head import HeadSums
from ppdl.pooling.subjects.mean import MeanSums

_DOMAIN = b"PPDL-POOL/1 terms\0"
NAME = "[a-z0-9][a-z0-9_-]{0,39}"
_KINDS: Mapping[str, type[Subject]] = {subject.kind: subject for subject in (ClassCounts, HeadSums, MeanSums)}


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
        subject: what is summed, and by which rules.
        roster: by name.

    Raises:
        ConfigError: names the rule that is broken.
    """

    fingerprint: str
    key_bits: int
    subject: Subject
    roster: Mapping[str, Member]

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
        if empty := [name for name, num_films in self.films.items() if num_films < 1]:
            raise ConfigError(f"hospital {empty[0]} declares no film: leave it out of the roster")
        self.check_size(self.roster)
        self.packing  # noqa: B018 - its rules

    @property
    def films(self) -> dict[str, int]:
        """How many films each hospital of the roster declares."""
        return {name: member.num_films for name, member in self.roster.items()}

    @property
    def num_sums(self) -> int:
        return self.subject.num_sums

    def declared(self, contributors: Collection[str]) -> int:
        """Count the films that some hospitals declare."""
        return films_of(self.films, contributors)

    def check_size(self, contributors: Collection[str]) -> None:
        """Refuse so few films or hospitals that their total tells too much, by the rule of what is summed. Raises: ConfigError."""
        self.subject.check_size(self.films, contributors)

    @cached_property
    def packing(self) -> WidePacking:
        """How sums are packed: no sum over the films of the whole roster leaves its slot, noise and what makes it positive included."""
        try:
            return WidePacking(self.key_bits, self.subject.slot_bits(self.films))
        except PpdlError as error:
            raise ConfigError(f"{self.subject.kind} sums over {self.declared(self.roster)} films: {error}") from None

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of all terms: every signed statement of the run holds it."""
        return hashlib.sha256(_DOMAIN + canonical(self.tree)).hexdigest()

    @property
    def tree(self) -> dict[str, Any]:
        """The terms as JSON values."""
        tree = json.loads(json.dumps(asdict(self)))
        return {**tree, "subject": {"kind": self.subject.kind, **tree["subject"]}}

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Terms:
        """Return the terms that `tree` holds. Raises: ConfigError."""
        try:
            roster = {str(name): Member(**member) for name, member in tree["roster"].items()}
            fields = dict(tree["subject"])
            return cls(**{**tree, "roster": roster, "subject": _KINDS[fields.pop("kind")].from_tree(fields)})
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ConfigError(f"these are no terms of a run ({type(error).__name__}): get them from who calls the run") from None


def canonical(tree: Any) -> bytes:
    """Return JSON values as the one text that is hashed and signed."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
