"""A hospital's own ledger: which films it ever contributed, so that no two totals differ by a few of them.

    NAME.contributions.json   in the hospital's private folder, mode 0600
        format         "ppdl contributions v1"
        secret         of HMAC-SHA-256, so that the file tells nobody which films they are
        contributions  a list of {run, films}: the digest of the terms, and one code a film

Who holds two totals has their difference, which is the total over the films that only one of them counts: the floor of films a feature
holds for it as well. Only films of this hospital are seen here; the others' ledgers see theirs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppdl.crypto.keys.keyfile import create_private_dir, only_writer, read_file, replace_private
from ppdl.errors import KeyStoreError
from ppdl.pooling.terms import Terms

FORMAT = "ppdl contributions v1"
_LARGEST_BYTES = 2**30


def record_contribution(private_dir: Path, name: str, terms: Terms, films: Sequence[bytes]) -> None:
    """Record a contribution before it is committed to; the same one again changes nothing.

    Args:
        private_dir: the hospital's folder.
        films: SHA-256 of each film's pixels.

    Raises:
        KeyStoreError: an earlier contribution differs by too few films, or the ledger cannot be used.
    """
    create_private_dir(private_dir)
    path = private_dir / f"{name}.contributions.json"
    with only_writer(private_dir):
        content = _read(path)
        secret = bytes.fromhex(content["secret"])
        codes = sorted(hmac.new(secret, film, hashlib.sha256).hexdigest() for film in films)
        for earlier in content["contributions"]:
            differ = len(set(codes) ^ set(earlier["films"]))
            if 0 < differ < terms.least_films:
                raise KeyStoreError(
                    f"{path}: {name} contributed other films before, and {differ} films differ: who holds both totals has that of the "
                    f"difference, which must be over {terms.least_films} films (16 a feature) or none. "
                    "Contribute those of before, or enough others; "
                    "where these images are nobody's, pooling.accept_membership=true, or another keygen.private_dir"
                )
        if any(earlier["run"] == terms.digest and earlier["films"] == codes for earlier in content["contributions"]):
            return
        content["contributions"].append({"run": terms.digest, "films": codes})
        replace_private(path, content)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"format": FORMAT, "secret": secrets.token_hex(32), "contributions": []}
    try:
        content = json.loads(read_file(path, _LARGEST_BYTES, what="ledger of contributions"))
        if content["format"] != FORMAT or not all({"run", "films"} <= set(entry) for entry in content["contributions"]):
            raise ValueError(content["format"])
        bytes.fromhex(content["secret"])
    except (ValueError, TypeError, KeyError) as error:
        raise KeyStoreError(
            f"{path} is no ledger of contributions ({type(error).__name__}): restore it from a backup. Without it nothing can tell whether "
            "a new contribution differs from an earlier one by a few films"
        ) from None
    return content
