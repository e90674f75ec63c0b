"""Find what others handed over and DVC has not saved: ciphertexts, revealed views and public keys that exist nowhere else on this machine.

`dvc repro --single-item STAGE` leaves such files where they are and builds on them. `dvc exp run` first checks out what dvc.lock says, and
deletes all else in the place of outputs, with --force and before any stage runs; and a stage's own outputs are deleted before it starts. So
hydra_plugins/ asks here when `dvc exp run` composes conf/, and the stage download before a whole pipeline follows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ppdl.crypto.purpose import ARCHIVE, PUBLIC_PATHS
from ppdl.errors import PpdlError

NEXT = {"encrypted": "stem@{0} (or train_encrypted@{0})", "stem": "reveal@{0}", "revealed": "train_encrypted@{0}"}  # what is built on it


class HandedOverError(PpdlError):
    """What somebody handed over would be deleted."""


def refuse_to_delete(project: Path, private_dir: Path, command: str) -> None:
    """Stop before a command deletes what exists nowhere else.

    Args:
        project: the DVC project's root.
        private_dir: folder of private keys; a public key whose private part is there is no loss.

    Raises:
        HandedOverError: names each, and what to do.
    """
    if not any(_candidates(project)):
        return
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        cache = Path(repo.cache.local.path)
    found = dict(_unsaved(project, cache, private_dir))
    if found:
        rows = "\n".join(f"  {path.relative_to(project)}: {use}" for path, use in found.items())
        raise HandedOverError(
            f"{command} would delete what was handed over, and DVC's cache does not have it:\n{rows}\n"
            "Use it with that command, which leaves it where it is (values for it: `ppdl keep NAME=VALUE`), or move it away."
        )


def _candidates(project: Path) -> Iterator[Path]:
    """Yield the last-written file of each artifact, and public key files."""
    for place in NEXT:
        yield from sorted(project.glob(f"data/{place}/*/header.json"))
    yield from (path for public in PUBLIC_PATHS.values() if (path := project / public).is_file())


def _unsaved(project: Path, cache: Path, private_dir: Path) -> Iterator[tuple[Path, str]]:
    from ppdl.crypto.keyfile import load_public, private_path

    for path in _candidates(project):
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()  # DVC's name for a file
        if (cache / md5[:2] / md5[2:]).exists():
            continue
        if path.name == "header.json":
            yield path.parent, "dvc repro --single-item " + NEXT[path.parent.parent.name].format(path.parent.name)
            continue
        public = load_public(path, None)
        if not private_path(private_dir, public.fingerprint).exists():
            yield path, "dvc repro --single-item " + ("keygen" if public.purpose == ARCHIVE else f"keygen_{public.purpose}")
