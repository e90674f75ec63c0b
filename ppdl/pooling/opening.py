"""The key holder's side of a run: a key pair for it alone, one opening, and what is made of its total.

    FINGERPRINT.terms.json     in the key holder's private folder, mode 0600: digest of the terms that the key was made for, see `pins`
    FINGERPRINT.opening.json   the same, on the disk before anything is decrypted
        format    "ppdl opening v1"
        tally     digest of the tally that the key was used for
        opened    null until the answer stands, then true or false
    FINGERPRINT.answer         a folder: what was made of the total

A run's key opens one tally, of the terms that it was made for. The same one again gives the same answer, also after a kill; any other is
refused, whatever came of the first. Every party gets the same bit; why a total was refused is nobody's to know. When the answer stands, the
private key is deleted: who gets the key holder's folder later, and no copy that was made before, cannot open what hospitals released.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ppdl.crypto.arithmetic.paillier import decrypt_batch
from ppdl.crypto.keys.jwk import read_public
from ppdl.crypto.keys.keyfile import (
    create_private,
    load_private,
    load_public,
    only_writer,
    private_path,
    read_file,
    read_members,
    replace_private,
    save_public,
)
from ppdl.crypto.keys.keypair import PrivateKey, generate_keypair
from ppdl.crypto.keys.keystore import check_private_dir, save_private
from ppdl.crypto.keys.purpose import FEDERATION
from ppdl.errors import ArtifactError, CryptoError, DataError, KeyStoreError
from ppdl.pooling.board import Board, read_rows
from ppdl.pooling.pins import check_pin, pin
from ppdl.pooling.statements import TALLY, Tally, check_contributors, read_commitments, read_signed
from ppdl.pooling.terms import Terms
from ppdl.records.atomic import sync

FORMAT = "ppdl opening v1"
_LARGEST_BYTES = 4096
REFUSED = "the total of this run was opened and is of no films, or gives no answer: the run is used up, and a new one must be called"
_OTHER_TERMS = (
    "the key holder called no run on these terms (an older version kept no record of it): "
    "call a new one (`dvc repro --force --single-item pool@NAME`)"
)


def make_run_key(board: Board, private_dir: Path, *, key_bits: int, allow_insecure_key: bool, project: Path) -> str:
    """Make the key pair of a new run, put its public part on the board, and return its fingerprint.

    Raises: ConfigError for a bad key_bits; KeyStoreError when the folder lies in the project, or others may enter it.
    Cost: 1 s at 3072 bits.
    """
    check_private_dir(private_dir, project)
    key = generate_keypair(key_bits, purpose=FEDERATION, allow_insecure_key=allow_insecure_key)
    save_private(private_dir, key, project=project)
    save_public(board.folder / "public.json", key.public)
    return key.public.fingerprint


def pin_terms(private_dir: Path, terms: Terms) -> None:
    """Write down what the key of a run is for, before anybody else has the terms. Raises: KeyStoreError when it was for others."""
    pin(_pinned(private_dir, terms.fingerprint), terms.digest, _OTHER_TERMS)


def check_terms(private_dir: Path, terms: Terms) -> None:
    """Refuse terms, roster included, that the key holder did not make the key for. Raises: KeyStoreError."""
    check_pin(_pinned(private_dir, terms.fingerprint), terms.digest, _OTHER_TERMS)


def abandon_run(board: Board, private_dir: Path) -> None:
    """Remove the board of a run that nobody goes on with, its private key, and what was opened: what was released there stays closed."""
    with suppress(KeyStoreError, FileNotFoundError):  # no key was made yet, its file is damaged, or it is not here
        fingerprint = load_public(board.folder / "public.json", FEDERATION).fingerprint
        _delete_key(private_dir, fingerprint)  # first: without it nothing can be opened once more
        for path in (_pinned(private_dir, fingerprint), _record(private_dir, fingerprint)):
            path.unlink(missing_ok=True)
        shutil.rmtree(_answer(private_dir, fingerprint), ignore_errors=True)
    shutil.rmtree(board.folder, ignore_errors=True)


def left_keys(private_dir: Path) -> list[Path]:
    """Return the private keys of runs in a folder: of those that were called and not opened."""
    found = []
    for path in sorted(private_dir.glob("*.json")):
        with suppress(KeyStoreError):  # no key file, or a damaged one
            if read_public(read_members(path, private=True).get("pub"), path).purpose == FEDERATION:
                found.append(path)
    return found


def signed_tally(board: Board, terms: Terms) -> Tally:
    """Return the tally that every contributor signed, at least 3 of the roster.

    Raises:
        ArtifactError: it is not what was committed to, or a signature is missing or of another tally.
        ConfigError: so few films are left that their total would tell who is among them.
    """
    tally = board.read_tally()
    check_contributors(tally, terms, read_commitments(board.commitments, terms))
    for name in tally.contributors:
        path = board.tallies / f"{name}.json"
        if read_signed(path, TALLY, terms.roster[name].signing_key) != tally:
            raise ArtifactError(f"{path}: {name} signed another tally than {board.folder / 'tally.json'}: nothing is opened")
    return tally


def open_total(board: Board, terms: Terms, private_dir: Path, make: Callable[[Any, Path], None]) -> Path:
    """Open the run's total, once, and return the folder with what was made of it.

    Args:
        terms: as the board has them; the key holder's record says whether they are those that it called the run on.
        make: writes what is made of the total, see `Subject.total`, to a folder; raises DataError when nothing can be.

    Raises:
        ArtifactError, ConfigError: the tally is not signed by all contributors, or not of these terms. Nothing is used up.
        KeyStoreError: the key is for other terms, opened another tally, or is not here.
        DataError: the opened total is of no films, or nothing can be made of it. The run is used up, and says no more.
    """
    check_terms(private_dir, terms)
    tally = signed_tally(board, terms)
    key = board.public_key(terms)
    total = read_rows(board.sum, terms, key, tally.sum_sha256)
    record, answer = _record(private_dir, terms.fingerprint), _answer(private_dir, terms.fingerprint)
    opened = _begin(record, tally)
    if opened is None:
        secret = load_private(private_path(private_dir, terms.fingerprint), purpose=FEDERATION)
        opened = _answered(secret, total, terms, tally, make, answer)
        with only_writer(private_dir):
            replace_private(record, {"format": FORMAT, "tally": tally.digest, "opened": opened})
    _delete_key(private_dir, terms.fingerprint)
    if not opened:
        raise DataError(REFUSED)
    return answer


def _pinned(private_dir: Path, fingerprint: str) -> Path:
    return private_dir / f"{fingerprint}.terms.json"


def _record(private_dir: Path, fingerprint: str) -> Path:
    return private_dir / f"{fingerprint}.opening.json"


def _answer(private_dir: Path, fingerprint: str) -> Path:
    return private_dir / f"{fingerprint}.answer"


def _delete_key(private_dir: Path, fingerprint: str) -> None:
    private_path(private_dir, fingerprint).unlink(missing_ok=True)
    sync(private_dir)  # or a power cut brings it back


def _begin(record: Path, tally: Tally) -> bool | None:
    """Bind the key to a tally before it decrypts; return the answer, if it stands already."""
    try:
        create_private(record, {"format": FORMAT, "tally": tally.digest, "opened": None})
        return None
    except FileExistsError:
        pass
    try:
        content = json.loads(read_file(record, _LARGEST_BYTES, what="record of an opening"))
        bound, opened = content["tally"], content["opened"]
        if content["format"] != FORMAT or opened not in (None, True, False):
            raise ValueError(content["format"])
    except (ValueError, TypeError, KeyError) as error:
        raise KeyStoreError(
            f"{record} is no record of an opening ({type(error).__name__}): restore it, or call a new run; without it nothing is opened"
        ) from None
    if bound != tally.digest:
        raise KeyStoreError(f"{record}: the key of this run opened another tally, and it opens one, whatever came of it: call a new run")
    return opened


def _answered(key: PrivateKey, ciphertexts: Any, terms: Terms, tally: Tally, make: Callable[[Any, Path], None], answer: Path) -> bool:
    """Decrypt, check, make and keep the answer; say whether there is one. What was wrong is not told."""
    shutil.rmtree(answer, ignore_errors=True)
    try:
        opened = terms.packing.unpack(decrypt_batch(key, ciphertexts), terms.num_sums)
        make(terms.subject.total(opened, terms.films, tally.contributors.keys()), answer)
    except (CryptoError, DataError):
        return False
    for path in (*sorted(answer.iterdir()), answer, answer.parent):
        sync(path)  # on the disk before the record says so and the key goes
    return True
