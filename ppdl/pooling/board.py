"""Where the parties of a run leave what the others need: a folder that everybody reads. Nothing on it is secret.

terms.json               the terms, see `terms`
public.json              the run's public key
commitments/NAME.json    by each hospital of the roster
ciphertexts/NAME.npy     released by each hospital that came, uint8 (num_ciphertexts, ciphertext_bytes)
sum.npy                  by the server
tally.json               by the server, unsigned: what the contributors sign
tallies/NAME.json        signed by each contributor
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ppdl.crypto.arithmetic.paillier import add_ciphertexts
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.crypto.keys.keystore import load_public
from ppdl.crypto.keys.purpose import FEDERATION
from ppdl.errors import ArtifactError, ConfigError
from ppdl.pooling.statements import Tally, hash_rows
from ppdl.pooling.terms import Terms
from ppdl.records.atomic import replacing
from ppdl.records.reading import read_object

_ASK = "get it from who wrote it, or call a new run"


@dataclass(frozen=True)
class Board:
    """The files of one run below `folder`."""

    folder: Path

    @property
    def commitments(self) -> Path:
        return self.folder / "commitments"

    @property
    def tallies(self) -> Path:
        return self.folder / "tallies"

    def ciphertexts(self, name: str) -> Path:
        return self.folder / "ciphertexts" / f"{name}.npy"

    @property
    def sum(self) -> Path:
        return self.folder / "sum.npy"

    def write_terms(self, terms: Terms) -> None:
        self._write("terms.json", terms.tree)

    def read_terms(self) -> Terms:
        """Read the terms of the run, for who has not pinned them. Raises: ConfigError."""
        return Terms.from_tree(read_object(self.folder / "terms.json", ConfigError, missing="no run was called", damaged=_ASK))

    def public_key(self, terms: Terms) -> PublicKey:
        """Read the run's public key. Raises: KeyStoreError; ArtifactError when it is not the one that the terms name."""
        key = load_public(self.folder / "public.json", FEDERATION)
        if key.fingerprint != terms.fingerprint:
            raise ArtifactError(f"{self.folder / 'public.json'} is not the key of the run, {terms.fingerprint}: {_ASK}")
        return key

    def write_tally(self, tally: Tally) -> None:
        self._write("tally.json", asdict(tally))

    def read_tally(self) -> Tally:
        """Read what the server says that it added. Raises: ArtifactError."""
        tree = read_object(self.folder / "tally.json", ArtifactError, missing="the server has not added yet", damaged=_ASK)
        try:
            return Tally(**tree)
        except TypeError:
            raise ArtifactError(f"{self.folder / 'tally.json'} is no tally: {_ASK}") from None

    def _write(self, name: str, tree: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / name) as unfinished:
            unfinished.write_text(json.dumps(tree, indent=1) + "\n", encoding="ascii")


def write_rows(path: Path, ciphertexts: np.ndarray) -> None:
    """Write ciphertexts, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        np.save(unfinished, ciphertexts)


def read_rows(path: Path, terms: Terms, public_key: PublicKey, sha256: str | None = None) -> np.ndarray:
    """Read ciphertexts of as many sums as the terms say: uint8 (num_ciphertexts, ciphertext_bytes).

    Args:
        sha256: that they must have; None: any.

    Raises:
        ArtifactError: the file is missing, damaged, of another shape, or holds others.
    """
    shape = (terms.packing.num_plaintexts(terms.num_sums), public_key.ciphertext_bytes)
    try:
        rows = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing: {_ASK}") from None
    except Exception as error:  # numpy parses the header as Python: SyntaxError, TokenError, OverflowError and more
        raise ArtifactError(f"{path} cannot be read ({type(error).__name__}): {_ASK}") from None
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape != shape:
        raise ArtifactError(f"{path} must hold ciphertexts uint8 {shape}, as the terms say, got {rows.dtype} {rows.shape}: {_ASK}")
    if sha256 is not None and hash_rows(rows) != sha256:
        raise ArtifactError(f"{path} holds other ciphertexts than were committed to: {_ASK}")
    return rows


def add_released(board: Board, terms: Terms, tally: Tally) -> tuple[np.ndarray, str]:
    """Return the sum of the contributors' ciphertexts, uint8 (num_ciphertexts, ciphertext_bytes), and its digest: anybody can.

    Raises:
        ArtifactError: a contributor's ciphertexts are missing or not those that the tally names.
        CryptoError: a row is no ciphertext of the run's key.
    """
    key = board.public_key(terms)
    rows = [read_rows(board.ciphertexts(name), terms, key, sha256) for name, sha256 in sorted(tally.contributors.items())]
    total = add_ciphertexts(key, *rows)
    return total, hash_rows(total)
