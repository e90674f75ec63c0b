"""A hospital's own ledger: which films it ever contributed, so that no two totals differ by a few of them.

    NAME.contributions.json   in the hospital's private folder, mode 0600
        format         "ppdl contributions v2"
        secret         of HMAC-SHA-256: no list of digests matches the codes. Who has the file can still test whether a film is in it
        contributions  a list of {run, films, labelled}: the digest of the terms; a code of each film's pixels; one of these and the class

Who holds two totals has their difference, which is the total over the films that one of them counts oftener, or as another class: the
floor of films a feature holds for it as well. Each contribution is compared with each earlier one, and not with several together. Only
films of this hospital are seen here; the others' ledgers see theirs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppdl.crypto.keys.keyfile import create_private_dir, only_writer, read_file, replace_private
from ppdl.errors import KeyStoreError
from ppdl.pooling.subjects.base import Contribution

FORMAT = "ppdl contributions v2"
_LARGEST_BYTES = 2**30


def record_contribution(private_dir: Path, name: str, run: str, contribution: Contribution) -> None:
    """Record a contribution before it is committed to; the same one again changes nothing.

    Args:
        private_dir: the hospital's folder.
        run: digest of its terms.

    Raises:
        KeyStoreError: an earlier contribution differs by too few films, or the ledger cannot be used.
    """
    create_private_dir(private_dir)
    path = private_dir / f"{name}.contributions.json"
    with only_writer(private_dir):
        content = _read(path)
        secret = bytes.fromhex(content["secret"])
        films, least = contribution.films, contribution.least_films
        labelled = [film + class_name.encode() for film, class_name in zip(films, contribution.classes, strict=True)]
        codes, labelled_codes = (
            sorted(hmac.new(secret, text, hashlib.sha256).hexdigest() for text in texts) for texts in (films, labelled)
        )
        for earlier in content["contributions"]:
            differ = _num_different(codes, earlier["films"]) or _num_different(labelled_codes, earlier["labelled"]) // 2
            if 0 < differ < least:
                raise KeyStoreError(
                    f"{path}: {name} contributed other films or labels before, and {differ} differ: who holds both totals has that of the "
                    f"difference, which must be over {least} films (16 a feature) or none. "
                    "Contribute those of before, or enough others; "
                    "where these images are nobody's, pooling.accept_membership=true, or another keygen.private_dir"
                )
        new = {"run": run, "films": codes, "labelled": labelled_codes}
        if new in content["contributions"]:
            return
        content["contributions"].append(new)
        replace_private(path, content)


def _num_different(codes: Sequence[str], others: Sequence[str]) -> int:
    """Count what one list has oftener than the other."""
    counts = Counter(codes)
    counts.subtract(others)
    return sum(map(abs, counts.values()))


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"format": FORMAT, "secret": secrets.token_hex(32), "contributions": []}
    try:
        content = json.loads(read_file(path, _LARGEST_BYTES, what="ledger of contributions"))
        if content["format"] != FORMAT or not all({"run", "films", "labelled"} <= set(entry) for entry in content["contributions"]):
            raise ValueError(content["format"])
        bytes.fromhex(content["secret"])
    except (ValueError, TypeError, KeyError) as error:
        raise KeyStoreError(
            f'{path} is no ledger in the format "{FORMAT}" ({type(error).__name__}): restore it from a backup. One of an older version '
            "has no labels and cannot be compared: move it away if nobody has a total that this hospital is in"
        ) from None
    return content
