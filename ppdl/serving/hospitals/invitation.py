"""The invitation to a run: what every party agrees on, holds the others to, and no server may change. Nothing in it is secret.

invitation.json    {"format": "ppdl invitation v2", ...} the parts of `Invitation`
backbone.keras     of a head: public; the terms name its SHA-256
network.keras      of a federation, in the place of a backbone: the network that all start from

The key holder makes both and gives them to all; the digest of the first is what people compare by telephone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cryptography import x509

from ppdl.crypto.artifact.shards import hash_file
from ppdl.crypto.keys.jwk import parse_public
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.errors import DISTRIBUTION, ConfigError, KeyStoreError, install_extra
from ppdl.pooling.sharing import Averaging
from ppdl.pooling.subjects.counts import ClassCounts
from ppdl.pooling.subjects.head import HeadSums
from ppdl.pooling.terms import Terms, canonical
from ppdl.private_head.head import ARRAYS_FILE, JSON_FILE
from ppdl.records.atomic import replacing
from ppdl.records.reading import read_object
from ppdl.records.typecheck import check_types

FORMAT = "ppdl invitation v2"
FILE, BACKBONE, NETWORK = "invitation.json", "backbone.keras", "network.keras"
SERVER, HOSPITAL, KEY_HOLDER = "server", "hospital", "key-holder"
_ASK = "get it from the key holder again"


@dataclass(frozen=True)
class Invitation:
    """Say who takes part in a run, where, with what.

    Attributes:
        terms: of the run; of a federation, of its first sum, which counts classes.
        public_key: members of its public key's file.
        model: what the head says of its backbone, or of the network that a federation starts from; `sha256` is that of its file.
        plan: of a federation: rounds, epochs and bits as of `Averaging`, training as of `Training`, and the seed; None: of a head.
        address: HOST:PORT of the server. certificate: its own, PEM; no other certificate is trusted for it.
        holder_key: that the key holder signs the head with, Ed25519, in hex.
        node_keys: by name, of all hospitals and the key holder: the public key that Flower knows the party by, PEM.
        sealing_keys: by name, of all hospitals: the X25519 public key, in hex, that the head is sealed for.
        software: versions that all parties run.

    Raises:
        ConfigError: the parts are not of one run.
    """

    terms: Terms
    public_key: Mapping[str, Any]
    model: Mapping[str, Any]
    plan: Mapping[str, Any] | None
    address: str
    certificate: str
    holder_key: str
    node_keys: Mapping[str, str]
    sealing_keys: Mapping[str, str]
    software: Mapping[str, str]

    def __post_init__(self) -> None:
        if set(self.node_keys) != {KEY_HOLDER, *self.terms.roster} or len(set(self.node_keys.values())) < len(self.node_keys):
            raise ConfigError(f"each hospital of the roster and the key holder must have a node key of its own: {_ASK}")
        if set(self.sealing_keys) != set(self.terms.roster):
            raise ConfigError(f"each hospital of the roster must have a key that the head is sealed for: {_ASK}")
        wanted = self.model.get("sha256") if self.averaging else self.head.backbone_sha256
        if self.key.fingerprint != self.terms.fingerprint or not self.class_names or self.model.get("sha256") != wanted:
            raise ConfigError(f"key, {Path(self.file).stem} and terms are of different runs: {_ASK}")

    @property
    def head(self) -> HeadSums:
        """What the run sums for a head. Raises: ConfigError when it is for something else."""
        return HeadSums.of(self.terms.subject)

    @property
    def class_names(self) -> Sequence[str]:
        """Of a head or a network, in their order."""
        return (ClassCounts.of(self.terms.subject) if self.averaging else self.head).class_names

    @cached_property
    def averaging(self) -> Averaging | None:
        """How hospitals average; None: they pool a head."""
        if self.plan is None:
            return None
        parts: dict[str, Any] = {
            "hospitals": len(self.terms.roster),
            **{name: self.plan.get(name) for name in ("rounds", "epochs", "bits")},
        }
        check_types(Averaging, parts, "plan")
        return Averaging(**parts)

    @property
    def num_sums(self) -> int:
        """How many sums follow each other: one for a head; counts of classes and two a round for a federation."""
        return 1 + 2 * self.averaging.rounds if self.averaging else 1

    def labelled(self, phase: str, number: int) -> str:
        """Return a phase as people read it: of a federation with its place in the row of sums."""
        return f"{phase} {number + 1}/{self.num_sums}" if self.averaging else phase

    @property
    def outcome(self) -> str:
        """What all have in the end."""
        return "network" if self.averaging else "head"

    @property
    def parts(self) -> tuple[str, ...]:
        """Files that the key holder makes of a total; the last stands for all."""
        return ("total.npz",) if self.averaging else (ARRAYS_FILE, JSON_FILE)

    @property
    def file(self) -> str:
        """Name of the file beside the invitation."""
        return NETWORK if self.averaging else BACKBONE

    @cached_property
    def key(self) -> PublicKey:
        """The run's public key."""
        try:
            return parse_public(dict(self.public_key), FILE)
        except KeyStoreError as error:
            raise ConfigError(str(error)) from None

    @property
    def tree(self) -> dict[str, Any]:
        """The invitation as JSON values."""
        return json.loads(json.dumps(asdict(self))) | {"terms": self.terms.tree}

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of all parts: every message of the run holds it."""
        return hashlib.sha256(b"PPDL-POOL/1 invitation\0" + canonical(self.tree)).hexdigest()

    def write(self, folder: Path, file: Path) -> None:
        """Write the invitation and the file of its model into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / self.file) as unfinished:
            shutil.copyfile(file, unfinished)
        with replacing(folder / FILE) as unfinished:
            unfinished.write_text(json.dumps({"format": FORMAT, **self.tree}, indent=1) + "\n", encoding="ascii")

    @classmethod
    def read(cls, folder: Path) -> Invitation:
        """Read an invitation, and check that the file of its model lies beside it. Raises: ConfigError."""
        tree = read_object(folder / FILE, ConfigError, missing=_ASK, damaged=_ASK, form=FORMAT)
        try:
            found = cls(**{**tree, "terms": Terms.from_tree(tree["terms"])})
        except (TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{folder / FILE} is no invitation ({type(error).__name__}): {_ASK}") from None
        if not (folder / found.file).is_file() or hash_file(folder / found.file) != found.model["sha256"]:
            raise ConfigError(f"{folder / found.file} is missing, or not the {Path(found.file).stem} that the invitation names: {_ASK}")
        return found


def check_certificate(pem: str) -> None:
    """Refuse a certificate that is not valid today. Raises: ConfigError."""
    from datetime import UTC, datetime

    try:
        found = x509.load_pem_x509_certificate(pem.encode("ascii"))
    except ValueError:
        raise ConfigError("the server's certificate is none in PEM: get its card from it again") from None
    if not found.not_valid_before_utc <= datetime.now(UTC) <= found.not_valid_after_utc:
        days = f"{found.not_valid_before_utc:%Y-%m-%d} to {found.not_valid_after_utc:%Y-%m-%d}"
        raise ConfigError(f"the server's certificate is valid from {days}, not today: it must be made anew, and a new run be called")


def software() -> dict[str, str]:
    """Return the versions that a run's parties must have in common. Raises: ConfigError when Flower is missing."""
    try:
        return {name: version(name) for name in (DISTRIBUTION, "flwr")}
    except PackageNotFoundError as error:
        advice = f"in a checkout `make hospitals-setup`, elsewhere {install_extra('hospitals')}"
        raise ConfigError(f"this needs {error.name}, which is not installed: {advice}") from None
