"""Read and write key files safely: who may read them, complete or not at all, private ones never over another. jwk.py has the text."""

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ppdl.crypto.keys.jwk import (
    LARGEST_FILE_BYTES,
    parse_members,
    parse_private,
    parse_public,
    private_members,
    public_members,
)
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, check_purpose
from ppdl.crypto.keys.memory import forbid_core_dumps
from ppdl.crypto.keys.purpose import ARCHIVE
from ppdl.errors import KeyStoreError
from ppdl.records.atomic import replacing, sync

PASSPHRASE_VARIABLE = "PPDL_PRIVATE_KEY_PASSPHRASE"  # nosec B105  # the name of a variable
_TEMPORARY = (".new-", ".tmp")  # how names of unfinished files begin and end


def load_public(path: Path, purpose: str | None = ARCHIVE) -> PublicKey:
    """Load a public key file.

    Args:
        purpose: that the key must have; None admits any.
    Raises: KeyStoreError when it is missing, damaged, for another purpose, or its fingerprint is not the one that it states.
    """
    key = parse_public(read_members(path, private=False), path)
    if purpose is not None:
        check_purpose(key, purpose, path)
    return key


def save_public(path: Path, key: PublicKey) -> None:
    """Save a public key file, replacing an older one at once or not at all."""
    write_public(Path(path), public_members(key))


def public_md5(key: PublicKey) -> str:
    """Return the MD5 of the public key file of a key, which is DVC's name for it."""
    return hashlib.md5(_text(public_members(key)).encode("ascii"), usedforsecurity=False).hexdigest()


def write_public(path: Path, members: dict[str, Any]) -> None:
    """Write JSON members to a file that anybody may read, replacing an older one at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(_text(members), encoding="ascii")
        unfinished.chmod(0o644)


def load_private(path: Path, passphrase: str | None = None, *, purpose: str | None = ARCHIVE) -> PrivateKey:
    """Load a private key file; without a passphrase PPDL_PRIVATE_KEY_PASSPHRASE is used, when the file needs one.

    Args:
        purpose: that the key must have; None admits any.
    Raises: KeyStoreError when it is missing, readable by others, damaged, for another purpose, or the passphrase is wrong. The error holds
        no private part.
    """
    forbid_core_dumps()
    members = read_members(path, private=True)
    key = parse_private(members, path, passphrase if passphrase is not None else os.environ.get(PASSPHRASE_VARIABLE) or None)
    if purpose is not None:
        check_purpose(key.public, purpose, path)
    return key


def save_private(private_dir: Path, key: PrivateKey, *, passphrase: str | None = None, project: Path | None = None) -> Path:
    """Save a private key as private_dir/FINGERPRINT.json, 0600, complete or not at all, never over another file.

    Args:
        passphrase: protects the file; None falls back to PPDL_PRIVATE_KEY_PASSPHRASE, and without that it is not protected.
        project: the checkout that the key was made for, so that ensure_keypair can find it again.
    Raises: KeyStoreError when the file exists, or others may enter private_dir.
    """
    forbid_core_dumps()
    private_dir = Path(private_dir)
    create_private_dir(private_dir)
    path = private_path(private_dir, key.public.fingerprint)
    passphrase = passphrase if passphrase is not None else os.environ.get(PASSPHRASE_VARIABLE) or None
    members = private_members(key, passphrase=passphrase, project=None if project is None else str(project_root(project)))
    try:
        create_private(path, members)
    except FileExistsError:
        raise KeyStoreError(f"{path}: a private key file is never overwritten; move it away first") from None
    except OSError as error:
        raise KeyStoreError(
            f"{path}: cannot write this key file ({error.strerror}); the folder must be writable and have hard links"
        ) from None
    return path


def create_private_dir(private_dir: Path) -> None:
    """Make sure that there is a folder for private keys. Raises: KeyStoreError when others may enter it."""
    private_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if private_dir.stat().st_mode & 0o077:
        raise KeyStoreError(f"{private_dir}: the folder of private keys must be closed to others: chmod 700 {private_dir}")


def create_private(path: Path, members: dict[str, Any]) -> None:
    """Write JSON members to a new private file: 0600, complete or not at all, never over another.

    Raises: OSError, of which FileExistsError when there is one already.
    """
    with only_writer(path.parent):
        temporary = _write_temporary(path.parent, members)
        try:
            os.link(temporary, path)  # unlike a rename, this fails when the file exists
        finally:
            temporary.unlink()
        sync(path.parent)


def replace_private(path: Path, members: dict[str, Any]) -> None:
    """Write JSON members to a private file, replacing an older one at once or not at all; the caller is the `only_writer` of its folder."""
    _write_temporary(path.parent, members).replace(path)
    sync(path.parent)


def private_path(private_dir: Path, fingerprint: str) -> Path:
    """Return where the private key of a fingerprint lies."""
    return Path(private_dir) / f"{fingerprint}.json"


def project_root(project: Path) -> Path:
    """Return the checkout that owns the keys: for a copy below .dvc/tmp (dvc exp run --queue, --temp), the checkout above it."""
    parts = Path(project).resolve().parts
    for i in range(len(parts) - 1):
        if parts[i : i + 2] == (".dvc", "tmp"):
            return Path(*parts[:i])
    return Path(*parts)


def read_members(path: Path, *, private: bool) -> dict[str, Any]:
    """Read the JSON members of a key file.

    Raises: KeyStoreError when it cannot be read, is no JSON object, or is private and others may read it.
    """
    return parse_members(read_file(path, LARGEST_FILE_BYTES + 1, private=private), path)


def read_file(path: Path, largest: int, *, what: str = "key file", private: bool = True) -> bytes:
    """Read at most `largest` bytes of a file of the private folder.

    Args:
        what: what the errors call it. private: nobody else may read it.
    Raises: KeyStoreError when it cannot be read, or others may read it.
    """
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # of the open file: it cannot be exchanged in between
            if private and mode & 0o077:
                raise KeyStoreError(f"{path}: others may read this private file (mode {mode:04o}): chmod 600 {path}")
            return file.read(largest)
    except OSError as error:
        raise KeyStoreError(f"{path}: cannot read this {what} ({error.strerror})") from None


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Lock a folder of private files among its writers, and delete what a killed one left: it may hold private parts."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network file system may have no such locks: then leftovers stay
            fcntl.flock(handle, fcntl.LOCK_EX)
            for left in directory.glob(f"{_TEMPORARY[0]}*{_TEMPORARY[1]}"):
                left.unlink()
        yield
    finally:
        os.close(handle)


def _write_temporary(directory: Path, members: dict[str, Any]) -> Path:
    """Write members to a new private file in directory, synced to disk."""
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY[0], suffix=_TEMPORARY[1], dir=directory)  # O_EXCL, 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(_text(members))
            file.flush()
            os.fsync(handle)
    except BaseException:
        Path(name).unlink()  # it may hold private parts
        raise
    return Path(name)


def _text(members: dict[str, Any]) -> str:
    return json.dumps(members, indent=2) + "\n"
