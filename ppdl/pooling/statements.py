"""Signed statements of a run, and what all of them together must say.

    {"format": "PPDL-POOL/1", "kind": KIND, "statement": {...}, "signature": HEX}

KIND is `commitment`, by a hospital before any ciphertext is shown, `tally`, by each hospital whose ciphertexts are in the sum, or, over a
network, by the key holder: `called`, of the terms of a sum, and `opened`, of what it made of the total.
The signed message is `b"PPDL-POOL/1 KIND\\0"` and the statement as canonical JSON. Each statement holds the digest of the terms, so
none fits another run.

Source: copied contributions, which commitments before ciphertexts prevent: V. Cortier, B. Smyth, "Attacking and fixing Helios", IEEE CSF
    2011. A tally that anybody recomputes: B. Adida, O. de Marneffe, O. Pereira, J.-J. Quisquater, "Electing a University President using
    Open-Audit Voting: Analysis of real-world use of Helios", EVT/WOTE 2009. Ed25519: RFC 8032, through pyca's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ppdl.errors import ArtifactError
from ppdl.pooling.sharing import LEAST_HOSPITALS
from ppdl.pooling.terms import Terms, canonical
from ppdl.records.atomic import replacing
from ppdl.records.reading import read_object

FORMAT = "PPDL-POOL/1"
COMMITMENT, TALLY, CALLED, OPENED = "commitment", "tally", "called", "opened"


@dataclass(frozen=True)
class Commitment:
    """A hospital's promise which ciphertexts it will release.

    Attributes:
        run: digest of the terms. hospital: its name.
        ciphertexts_sha256: of the ciphertexts, row by row.
    """

    run: str
    hospital: str
    ciphertexts_sha256: str


@dataclass(frozen=True)
class Tally:
    """What is to be opened.

    Attributes:
        run: digest of the terms.
        commitments_sha256: of all commitments of the roster.
        contributors: by name, the digest of the ciphertexts that went into the sum.
        sum_sha256: of the sum's ciphertexts.
    """

    run: str
    commitments_sha256: str
    contributors: Mapping[str, str]
    sum_sha256: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(canonical(asdict(self))).hexdigest()


@dataclass(frozen=True)
class Opened:
    """What came of a run.

    Attributes:
        run: digest of the terms.
        answer_sha256: of the file that stands for what was made of the total: of a head, head.json, which names that of the weights.
    """

    run: str
    answer_sha256: str


@dataclass(frozen=True)
class Called:
    """One of the sums that follow each other under one invitation.

    Attributes:
        invitation: its digest. number: of the sum, from 0. run: digest of its terms.
    """

    invitation: str
    number: int
    run: str


Statement = Commitment | Tally | Called | Opened
_KINDS: Mapping[str, type[Statement]] = {COMMITMENT: Commitment, TALLY: Tally, CALLED: Called, OPENED: Opened}


def hash_rows(ciphertexts: np.ndarray) -> str:
    """Return the SHA-256 in hex of ciphertexts, uint8 (num_ciphertexts, ciphertext_bytes), and of their number and size."""
    shape = f"{ciphertexts.shape[0]}x{ciphertexts.shape[1]}\0".encode("ascii")
    return hashlib.sha256(shape + np.ascontiguousarray(ciphertexts).tobytes()).hexdigest()


def write_signed(path: Path, kind: str, statement: Statement, key: Ed25519PrivateKey) -> None:
    """Sign a statement and write it, whole or not at all."""
    tree = asdict(statement)
    content = {"format": FORMAT, "kind": kind, "statement": tree, "signature": key.sign(_message(kind, tree)).hex()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")


def read_signed(path: Path, kind: str, signing_key: str) -> Any:
    """Read a statement that `write_signed` wrote, as the class of its kind.

    Args:
        signing_key: Ed25519 public key, in hex, that must have signed it.

    Raises:
        ArtifactError: it is missing, damaged, of another kind, or not signed by this key.
    """
    content = read_object(path, ArtifactError, missing="its maker has not sent it", damaged="get it from its maker again")
    try:
        tree, signature = content["statement"], bytes.fromhex(content["signature"])
        if (content["format"], content["kind"]) != (FORMAT, kind):
            raise ArtifactError(f"{path} must be a {kind} in format {FORMAT}, got {ascii((content['format'], content['kind']))[:80]}")
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signing_key)).verify(signature, _message(kind, tree))
        return _KINDS[kind](**tree)
    except InvalidSignature:
        raise ArtifactError(
            f"{path}: not signed by the key {signing_key[:16]}... of the roster: it was changed, or is somebody else's"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is no signed {kind} ({type(error).__name__}): get it from its maker again") from None


def read_commitments(folder: Path, terms: Terms) -> dict[str, Commitment]:
    """Read the commitments of the whole roster, in its order.

    Raises:
        ArtifactError: one is missing, of another run or hospital, or two promise the same ciphertexts, so that one copied the other.
    """
    found: dict[str, Commitment] = {}
    for name, member in terms.roster.items():
        path = folder / f"{name}.json"
        commitment = found[name] = read_signed(path, COMMITMENT, member.signing_key)
        if commitment.run != terms.digest:
            raise ArtifactError(f"{path} is of another run, or of one under other terms: {name} must commit to this one")
        if commitment.hospital != name:
            raise ArtifactError(f"{path} is a commitment of {ascii(commitment.hospital)[:60]}, not of {name}")
    owners: dict[str, str] = {}
    for name, commitment in found.items():
        if (other := owners.setdefault(commitment.ciphertexts_sha256, name)) != name:
            raise ArtifactError(f"{name} and {other} commit to the same ciphertexts: one copied the other, and no sum is made of them")
    return found


def commitments_sha256(commitments: Mapping[str, Commitment]) -> str:
    """Return one digest for the commitments of the whole roster."""
    return hashlib.sha256(canonical({name: asdict(commitment) for name, commitment in commitments.items()})).hexdigest()


def check_contributors(tally: Tally, terms: Terms, commitments: Mapping[str, Commitment]) -> None:
    """Refuse a tally of another run, of other commitments, of too few hospitals, or of ciphertexts that nobody committed to.

    Raises:
        ArtifactError: names the rule.
        ConfigError: so few films are left that their total would tell who is among them.
    """
    if tally.run != terms.digest or tally.commitments_sha256 != commitments_sha256(commitments):
        raise ArtifactError("the tally is of another run, or of other commitments than those of the roster: do not sign or open it")
    if strangers := sorted(set(tally.contributors) - set(terms.roster)):
        raise ArtifactError(f"the tally names contributors that are not on the roster: {', '.join(map(ascii, strangers))[:80]}")
    if len(tally.contributors) < LEAST_HOSPITALS:
        raise ArtifactError(
            f"the tally has {len(tally.contributors)} contributors, and a total of fewer than {LEAST_HOSPITALS} is never opened: "
            "wait for the others, or call a new run"
        )
    for name, sha256 in tally.contributors.items():
        if sha256 != commitments[name].ciphertexts_sha256:
            raise ArtifactError(f"the tally counts other ciphertexts of {name} than it committed to: do not sign or open it")
    terms.check_size(tally.contributors)


def _message(kind: str, tree: Any) -> bytes:
    return f"{FORMAT} {kind}\0".encode("ascii") + canonical(tree)
