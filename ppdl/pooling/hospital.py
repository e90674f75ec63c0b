"""A hospital's side of a run: it commits to its encrypted sums, releases them, and signs the tally that it recomputed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.paillier import encrypt_batch
from ppdl.errors import ArtifactError, ConfigError
from ppdl.pooling.board import Board, add_released, read_rows, write_rows
from ppdl.pooling.contributions import record_contribution
from ppdl.pooling.pins import check_pin, pin
from ppdl.pooling.statements import (
    COMMITMENT,
    TALLY,
    Commitment,
    check_contributors,
    commitments_sha256,
    hash_rows,
    read_commitments,
    read_signed,
    write_signed,
)
from ppdl.pooling.terms import Terms

KEPT = "npy", "commitments.json", "tally.json"


@dataclass(frozen=True)
class Hospital:
    """One hospital in a run.

    Every step looks at what is there already and does what is missing, so a step that was killed is done by calling it again.

    Attributes:
        name: on the roster.
        terms: that this hospital agreed to: they must not come from the board, which others write to.
        board: of the run.
        private_dir: its own folder: its ciphertexts, what it saw and signed of the run, and the ledger of contributions.
        key: that it signs with.

    Raises:
        ConfigError: the roster has another key for it, or does not name it.
    """

    name: str
    terms: Terms
    board: Board
    private_dir: Path
    key: Ed25519PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        member = self.terms.roster.get(self.name)
        if member is None or member.signing_key != self.key.public_key().public_bytes_raw().hex():
            raise ConfigError(f"the roster does not name {self.name} with the key that it signs with: pin terms that do")

    def commit(self, brought: Any) -> None:
        """Encrypt the sums over films, keep the ciphertexts here, and sign a commitment to them.

        Args:
            brought: what the subject of the terms makes its integers of.

        Raises:
            DataError, ConfigError: what is brought is not what this hospital declared, or not of these terms; see the subject.
            KeyStoreError: the ledger declines the contribution.
            ArtifactError: the commitment on the board is not of these ciphertexts.
        """
        terms = self.terms
        integers = terms.subject.integers(self.name, brought, terms.films)
        if (contribution := terms.subject.ledger(brought)) is not None:
            record_contribution(self.private_dir, self.name, terms.digest, contribution)
        if not self._own.exists():
            public_key, plaintexts = self.board.public_key(terms), terms.packing.pack(integers)
            source = build_obfuscators(public_key, num_ciphertexts=len(plaintexts))
            write_rows(self._own, encrypt_batch(public_key, plaintexts, source))
        sha256, path = hash_rows(self._ciphertexts()), self.board.commitments / f"{self.name}.json"
        if not path.exists():
            write_signed(path, COMMITMENT, Commitment(terms.digest, self.name, sha256), self.key)
        elif read_signed(path, COMMITMENT, terms.roster[self.name].signing_key).ciphertexts_sha256 != sha256:
            raise ArtifactError(f"{path} is a commitment to other ciphertexts than {self._own} holds: {self.name} contributes once a run")

    def release(self) -> None:
        """Show the ciphertexts, now that every hospital of the roster is committed to its own, and hold all to these commitments.

        Raises:
            ArtifactError: a commitment is missing, or not what it should be: nothing is released.
            KeyStoreError: there were other commitments when it released before.
        """
        commitments, ciphertexts = read_commitments(self.board.commitments, self.terms), self._ciphertexts()
        if commitments[self.name].ciphertexts_sha256 != hash_rows(ciphertexts):
            raise ArtifactError(f"the board has a commitment of {self.name} to other ciphertexts than it holds: nothing is released")
        pin(self._kept("commitments.json"), commitments_sha256(commitments), self._replaced)
        write_rows(self.board.ciphertexts(self.name), ciphertexts)

    def countersign(self) -> None:
        """Recompute the server's sum, and sign the tally when it is that of the contributors' committed ciphertexts.

        Raises:
            ArtifactError: the tally or the sum is not what it should be: nothing is signed.
            KeyStoreError: the tally is of other commitments than this hospital released on, or it signed another one.
            ConfigError: too few films are left.
        """
        terms, tally = self.terms, self.board.read_tally()
        check_contributors(tally, terms, read_commitments(self.board.commitments, terms))
        if tally.contributors.get(self.name) is None:
            raise ArtifactError(f"the tally does not count {self.name}, which has nothing to sign in it")
        check_pin(self._kept("commitments.json"), tally.commitments_sha256, self._replaced)
        if add_released(self.board, terms, tally)[1] != tally.sum_sha256:
            raise ArtifactError("the server's sum is not that of the contributors' ciphertexts: it is not signed")
        pin(self._kept("tally.json"), tally.digest, f"{self.name} signed another tally of this run before, and signs one a run")
        write_signed(self.board.tallies / f"{self.name}.json", TALLY, tally, self.key)

    def _kept(self, what: str) -> Path:
        return kept(self.private_dir, self.name, self.terms, what)

    @property
    def _own(self) -> Path:
        return self._kept("npy")

    @property
    def _replaced(self) -> str:
        return f"{self.name} released its ciphertexts on other commitments than the board has now, or never did: call a new run"

    def _ciphertexts(self) -> np.ndarray:
        return read_rows(self._own, self.terms, self.board.public_key(self.terms))


def kept(private_dir: Path, name: str, terms: Terms, what: str) -> Path:
    """Return where a hospital keeps a thing until the run is over: one of KEPT."""
    return private_dir / f"{name}.{terms.digest[:16]}.{what}"
