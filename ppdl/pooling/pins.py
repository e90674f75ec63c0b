"""Digests that a party wrote down for itself, once: what it went by, whatever the board says later.

{"format": "ppdl pin v1", "sha256": HEX}    in the party's private folder, mode 0600, on the disk before what follows from it
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ppdl.crypto.keys.keyfile import create_private
from ppdl.errors import KeyStoreError
from ppdl.records.reading import read_object

FORMAT = "ppdl pin v1"


def pin(path: Path, sha256: str, otherwise: str) -> None:
    """Write a digest down, unless one was before; then it must be the same. See `check_pin`."""
    with suppress(FileExistsError):
        create_private(path, {"format": FORMAT, "sha256": sha256})
    check_pin(path, sha256, otherwise)


def check_pin(path: Path, sha256: str, otherwise: str) -> None:
    """Go on only if this is the digest that was written down.

    Args:
        otherwise: what is wrong then, and what to do.

    Raises:
        KeyStoreError: it is another one, or none.
    """
    if read_object(path, KeyStoreError, missing=otherwise, damaged=otherwise, form=FORMAT).get("sha256") != sha256:
        raise KeyStoreError(f"{path} names another digest: {otherwise}")
