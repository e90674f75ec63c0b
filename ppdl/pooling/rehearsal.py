"""A whole run in one process, party by party: what a federation does on as many machines."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ppdl.crypto.keys.keyfile import create_private_dir
from ppdl.crypto.keys.keystore import check_private_dir
from ppdl.crypto.signing import load_signing_key, make_signing_key
from ppdl.errors import PpdlError
from ppdl.pooling.board import Board
from ppdl.pooling.hospital import KEPT, Hospital, kept
from ppdl.pooling.opening import abandon_run, check_terms, make_run_key, pin_terms
from ppdl.pooling.server import add_contributions
from ppdl.pooling.terms import Member, Terms


def call_run(
    board: Board,
    wanted: Terms,
    private_dir: Path,
    *,
    allow_insecure_key: bool,
    project: Path,
) -> Terms:
    """Return the terms of the run that was interrupted on `board`, or have the key holder call a new one under a fresh key.

    Args:
        wanted: the terms, whatever their fingerprint.
        private_dir: of the key holder.
        project: that no private key may lie in.

    Raises:
        KeyStoreError: see `make_run_key`.
    """
    try:
        found = board.read_terms()
        board.public_key(found)
        check_terms(private_dir, found)
        if found.tree == replace(wanted, fingerprint=found.fingerprint).tree:
            return found
    except PpdlError:
        pass  # nothing that a run could go on from
    abandon_run(board, private_dir)
    fingerprint = make_run_key(board, private_dir, key_bits=wanted.key_bits, allow_insecure_key=allow_insecure_key, project=project)
    terms = replace(wanted, fingerprint=fingerprint)
    pin_terms(private_dir, terms)
    board.write_terms(terms)
    return terms


def rehearse(board: Board, terms: Terms, brought: Mapping[str, Any], hospitals_dir: Path) -> None:
    """Do the steps of all hospitals and of the server. Each looks at what is there, so the same call goes on after a kill.

    Args:
        brought: by hospital, what it commits, see `Hospital.commit`.
        hospitals_dir: with a private folder for each hospital, as `roster_of` left it.

    Raises: see `Hospital` and `add_contributions`.
    """
    hospitals = {name: Hospital(name, terms, board, hospitals_dir / name, hospital_key(hospitals_dir / name)) for name in brought}
    for name, own in brought.items():
        hospitals[name].commit(own)
    for hospital in hospitals.values():
        hospital.release()
    add_contributions(board, terms)
    for hospital in hospitals.values():
        hospital.countersign()


def take_away(board: Board, terms: Terms, out_dir: Path, hospitals_dir: Path) -> None:
    """Move the finished board to `out_dir`; from then on hospitals need not keep what they released, saw and signed."""
    shutil.rmtree(out_dir, ignore_errors=True)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(board.folder, out_dir)
    for name in terms.roster:
        for what in KEPT:
            kept(hospitals_dir / name, name, terms, what).unlink(missing_ok=True)


def roster_of(num_films: Mapping[str, int], hospitals_dir: Path, project: Path) -> dict[str, Member]:
    """Return the roster of hospitals that declare so many films, and make a signing key for who has none.

    Args:
        hospitals_dir: a folder in that of private keys.

    Raises: KeyStoreError when a private folder lies in the project, or others may enter it.
    """
    check_private_dir(hospitals_dir, project)
    create_private_dir(hospitals_dir.parent)
    keys = {name: hospital_key(hospitals_dir / name) for name in num_films}
    return {name: Member(key.public_key().public_bytes_raw().hex(), num_films[name]) for name, key in keys.items()}


def hospital_key(private_dir: Path) -> Ed25519PrivateKey:
    """Load the key that a hospital signs with, or make it."""
    create_private_dir(private_dir)
    found = sorted(private_dir.glob("signing-*.json"))
    return load_signing_key(found[0] if found else make_signing_key(private_dir, private_dir / "signing.pub"))
