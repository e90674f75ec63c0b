"""Find what others handed over and DVC has not saved: ciphertexts, revealed views and public keys that exist nowhere else on this machine.

`dvc repro --single-item STAGE` leaves such files where they are and builds on them. `dvc exp run` first checks out what dvc.lock says, and
deletes all else in the place of outputs, with --force and before any stage runs; and a stage's own outputs are deleted before it starts. So
hydra_plugins/ asks here when `dvc exp run` composes conf/, `ppdl repro` before it runs stages that write there, and the stage download
before a whole pipeline follows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ppdl.crypto.keys.purpose import ARCHIVE, PUBLIC_PATHS
from ppdl.errors import PpdlError
from ppdl.records.atomic import replacing

NEXT = {"encrypted": "stem@{0} (or train_encrypted@{0})", "stem": "reveal@{0}", "revealed": "train_encrypted@{0}"}  # what is built on it
_AT_WORK = "at work"


class HandedOverError(PpdlError):
    """What somebody handed over would be deleted."""


@contextmanager
def made_here(out_dir: Path, unfinished: Path) -> Iterator[None]:
    """Remember that the artifact which the block writes to `out_dir` was made here: a kill before DVC saves it leaves it unsaved, too."""
    marker = unfinished / _marker(out_dir)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(_AT_WORK)
    yield
    with replacing(marker) as partial:
        partial.write_text(_md5(out_dir / "header.json"))


def refuse_to_delete(project: Path, private_dir: Path, command: str, outs: Collection[Path] | None = None) -> None:
    """Stop before a command deletes what exists nowhere else.

    Args:
        project: the DVC project's root.
        private_dir: folder of private keys; a public key whose private part is there is no loss.
        command: what would delete it.
        outs: the places that the command writes to; all by default.

    Raises:
        HandedOverError: names each, and what to do.
    """
    candidates = {place: file for place, file in _candidates(project) if outs is None or place in outs}
    if not candidates:
        return
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        cache = Path(repo.cache.local.path)
    found = dict(_unsaved(candidates, project, cache, private_dir))
    if found:
        rows = "\n".join(f"  {path.relative_to(project)}: {use}" for path, use in found.items())
        raise HandedOverError(
            f"{command} would delete what was handed over, and DVC's cache does not have it:\n{rows}\n"
            "Use it with that command, which leaves it where it is (values for it: `ppdl keep NAME=VALUE`), or move it away."
        )


def _candidates(project: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each artifact with the file that is written last, and public key files with themselves."""
    for folder in NEXT:
        yield from ((file.parent, file) for file in sorted(project.glob(f"data/{folder}/*/header.json")))
    yield from ((path, path) for public in PUBLIC_PATHS.values() if (path := project / public).is_file())


def _unsaved(candidates: Mapping[Path, Path], project: Path, cache: Path, private_dir: Path) -> Iterator[tuple[Path, str]]:
    from ppdl.crypto.keys.keyfile import load_public, private_path

    for place, file in candidates.items():
        md5 = _md5(file)
        if (cache / md5[:2] / md5[2:]).exists():
            continue
        if {marker.read_text() for marker in project.glob(f".ppdl/*/{_marker(place)}")} & {md5, _AT_WORK}:
            continue
        if place != file:
            yield place, "dvc repro --single-item " + NEXT[place.parent.name].format(place.name)
        elif not private_path(private_dir, (public := load_public(file, None)).fingerprint).exists():
            yield place, "dvc repro --single-item " + ("keygen" if public.purpose == ARCHIVE else f"keygen_{public.purpose}")


def _marker(out_dir: Path) -> Path:
    return Path("made", f"{out_dir.parent.name}-{out_dir.name}")


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()  # DVC's name for a file
