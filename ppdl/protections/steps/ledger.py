"""The key holder's ledger: every filter whose outputs were ever revealed under a key, and what they tell together.

    FINGERPRINT.ledger.json   beside the private key, mode 0600
        format      "ppdl ledger v1"
        own_list    true once approved.json was there or had to be: from then on nothing takes its place
        revealed    height and width of the images, stride, filters, and when they were first revealed
        checked     the last decision: the digest of the filters it was about, and the shares of ppdl.protections.steps.disclosure

All images under a key count as the same. Nothing in an artifact could tell them apart: a digest of images would let everybody test guesses
of them, and sets that share all but one image would have different ones. Whoever wants other filters for other images gives those a key
pair of their own.

A filter is written here, and is on the disk, before one of its outputs is decrypted. So a killed run forgets nothing, and of two at once
the second counts what the first reveals.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.crypto.keys.keyfile import create_private_dir, only_writer, read_file, replace_private
from ppdl.crypto.keys.keystore import check_private_dir
from ppdl.errors import ConfigError, KeyStoreError
from ppdl.protections.context import KeyHolder
from ppdl.protections.steps.disclosure import FEW_VALUES, METHOD, Disclosure, Outputs, Undecided, disclosure, essential
from ppdl.protections.steps.filters import STRIDES, Filters, approved_filters
from ppdl.records.typecheck import check_types

FORMAT = "ppdl ledger v1"
WORST_SHARE = 0.5  # a pixel that most patches give away is given away
LARGEST_BYTES = 2**20
REVEALED_FROM = ("encrypted", "stem")  # folders below data/ whose artifacts a view is decrypted from


@dataclass(frozen=True)
class Entry:
    """Filters (channels, stride * stride) whose outputs on images of a size were revealed, and when first (UTC, ISO 8601)."""

    height: int
    width: int
    stride: int
    filters: Sequence[Sequence[int]]
    first: str

    @property
    def outputs(self) -> Outputs:
        return Outputs(self.height, self.width, self.stride, tuple(map(tuple, self.filters)))


@contextmanager
def open_ledger(private_dir: Path, fingerprint: str, *, project: Path) -> Iterator[Ledger]:
    """Open the ledger of a key for one writer at a time; without a file it is empty.

    Args:
        private_dir: folder of the private keys.
        project: the checkout, which must not hold it.

    Raises:
        KeyStoreError: the folder lies inside the project or is open to others, or the file is damaged.
    """
    private_dir = Path(private_dir)
    check_private_dir(private_dir, project)
    create_private_dir(private_dir)
    with only_writer(private_dir):
        yield Ledger(private_dir / f"{fingerprint}.ledger.json")


def respect_own_list(holder: KeyHolder, fingerprint: str, trusted: Mapping[str, Sequence[str]]) -> None:
    """Where roles are apart, have the key holder's own list alone say what is approved, from then on, also where a check fails later.

    Args:
        trusted: `Signing.trusted`: whose signatures are asked for, by folder below data/.
    """
    if any(trusted[folder] for folder in REVEALED_FROM):
        with open_ledger(holder.private_dir, fingerprint, project=holder.project) as ledger:
            ledger.require_own_list()


class Ledger:
    """What was revealed under one key; see `open_ledger`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: dict[str, Any] = {"format": FORMAT, "own_list": False, "revealed": [], "checked": None}
        if path.exists():
            self._content = _parse(read_file(path, LARGEST_BYTES, what="ledger"), path)
        self.entries = [Entry(**entry) for entry in self._content["revealed"]]

    @property
    def own_list(self) -> bool:
        """Whether `approved.json` alone says what is approved under this key."""
        return bool(self._content["own_list"])

    def require_own_list(self) -> None:
        """Remember that `approved.json` alone says what is approved, whatever is refused after."""
        if not self.own_list:
            self._write(self._content | {"own_list": True})

    def admit(self, outputs: Outputs, approved: Sequence[Filters]) -> Disclosure:
        """Record that `outputs` are revealed, unless they, all that is approved and all that was revealed before tell too much together.

        Args:
            approved: the key holder's list; what has a name counts at every stride, weights at their own.

        Returns:
            What all of it tells together, without noise and clipping.

        Raises:
            ConfigError: some pixel has one value in WORST_SHARE or more of uniform patches, or all patches of phantoms have one solution;
                or that could not be decided. Nothing is recorded.

        Cost: that of `disclosure` for filters that add something; a few milliseconds else.
        """
        together = essential([*(entry.outputs for entry in self.entries), outputs, *_at_every_stride(approved, outputs)])
        found = self._measured(together)
        content = self._content | {"checked": {"sha256": _digest(together), "shares": asdict(found)}}
        if outputs not in [entry.outputs for entry in self.entries]:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            new = Entry(outputs.height, outputs.width, outputs.stride, [list(row) for row in outputs.weights], now)
            content["revealed"] = [*content["revealed"], asdict(new)]
            self.entries.append(new)
        if content != self._content:
            self._write(content)
        return found

    def _write(self, content: dict[str, Any]) -> None:
        if len(json.dumps(content, indent=2)) >= LARGEST_BYTES:
            raise KeyStoreError(f"{self.path}: full: a ledger has at most {LARGEST_BYTES} bytes; use another key pair")
        replace_private(self.path, content)
        self._content = content

    def _measured(self, together: tuple[Outputs, ...]) -> Disclosure:
        checked = self._content["checked"]
        if checked and checked["sha256"] == _digest(together):
            return Disclosure(**checked["shares"])
        advice = (
            "Nothing was decrypted. Approve fewer filters; give weights in place of a name, which counts at every stride; or, for other "
            f"images than those that {self.path} is about, use another key pair (keygen.private_dir)"
        )
        try:
            found = disclosure(together)
        except Undecided as error:
            raise ConfigError(f"what the approved and revealed filters tell together cannot be decided: {error}. {advice}") from None
        if found.worst_pixel >= WORST_SHARE or found.patches_unique_phantom == 1:
            raise ConfigError(
                f"the approved filters, with all that was revealed under this key before, give pixels away: {found}; the pixel that has "
                f"the least freedom has at most {FEW_VALUES} values in {found.worst_pixel:.0%} of uniform patches, and less than "
                f"{WORST_SHARE:.0%} is allowed. {advice}"
            )
        return found


def outputs_on(height: int, width: int, stride: int, weights: np.ndarray) -> Outputs:
    """Describe the outputs of `weights` (channels, stride * stride) on images of a size."""
    return Outputs(height, width, stride, tuple(map(tuple, weights.tolist())))


def _at_every_stride(approved: Sequence[Filters], like: Outputs) -> list[Outputs]:
    return [
        outputs_on(like.height, like.width, stride, matrix) for stride in STRIDES for matrix in approved_filters(approved, stride).values()
    ]


def _digest(together: tuple[Outputs, ...]) -> str:
    return hashlib.sha256(json.dumps([METHOD, [asdict(found) for found in together]]).encode()).hexdigest()


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
        if set(content) != {"format", "own_list", "revealed", "checked"} or content["format"] != FORMAT:
            raise ValueError
        for entry in content["revealed"]:
            check_types(Entry, entry, "revealed")
            if entry["stride"] not in STRIDES or min(entry["height"], entry["width"]) < 1:
                raise ValueError
            if {len(row) for row in entry["filters"]} != {entry["stride"] ** 2}:
                raise ValueError
            Entry(**entry)
        if (checked := content["checked"]) is not None:
            check_types(Disclosure, checked["shares"], "shares")
            Disclosure(**checked["shares"])
            str.encode(checked["sha256"])
        if not isinstance(content["own_list"], bool):
            raise ValueError
    except (ValueError, TypeError, LookupError, RecursionError, ConfigError):
        raise KeyStoreError(
            f"{path}: damaged: must be a ledger as ppdl.protections.steps.ledger describes it; restore it from a backup. "
            "Without it, what was revealed under this key is not counted"
        ) from None
    return content
