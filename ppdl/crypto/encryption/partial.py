"""Keep an artifact that is being written where an interrupted run can go on, and move it into place when it is whole.

    PARTIAL/plan.json       what is being written; a run whose plan differs starts over
    PARTIAL/records.jsonl   one finished shard a line, as in the header
    PARTIAL/work-TOKEN/     where workers of one run write; what the workers of a killed run still write harms nobody
    PARTIAL/artifact/       the shards, and at last header.json; renamed to the final folder
    PARTIAL/lock            one writer at a time

The folder stays on the machine that holds the images: unlike the artifact, the plan holds the SHA-256 of their pixels.
"""

import json
import logging
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from ppdl.crypto.artifact.fields import Shard
from ppdl.crypto.artifact.header import Header
from ppdl.crypto.artifact.header_file import HEADER_FILE, write_text
from ppdl.crypto.artifact.shards import SHARED, check_size, hash_file
from ppdl.errors import ArtifactError
from ppdl.records.atomic import move_folder, partial_path, replacing

logger = logging.getLogger(__name__)


class Partial:
    """Hold the folder of an unfinished artifact; use as a context manager.

    Args:
        folder: where the unfinished artifact lies, on the file system of `out_dir` if the last step is to be a rename.
        out_dir: the final folder; must be missing or empty.

    Raises:
        ArtifactError: `out_dir` is in use, `folder` holds other files, or another process writes there now.
    """

    def __init__(self, folder: Path, out_dir: Path) -> None:
        self.folder, self.out_dir = Path(folder), Path(out_dir)
        self.artifact = self.folder / "artifact"
        self._plan, self._records = self.folder / "plan.json", self.folder / "records.jsonl"
        self.work = self.folder / f"work-{secrets.token_hex(8)}"
        self._lock = FileLock(self.folder / "lock")

    def __enter__(self) -> "Partial":
        if (self.out_dir.is_dir() and any(self.out_dir.iterdir())) or (self.out_dir.exists() and not self.out_dir.is_dir()):
            raise ArtifactError(f"{self.out_dir}: an artifact is written to a new or empty folder, found one in use; remove it first")
        if self.folder.exists() and not self.folder.is_dir():
            raise ArtifactError(f"{self.folder}: must be a folder for the unfinished artifact, found a file; choose another")
        known = {path.name for file in (self._plan, self._records) for path in (file, partial_path(file))} | {"artifact", "lock"}
        names = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        if other := [name for name in names if name not in known and not name.startswith("work-")]:
            raise ArtifactError(f"{self.folder}: must hold an unfinished artifact only, found {other[0]!r}; choose another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ArtifactError(f"{self.folder}: another process writes this artifact now; wait for it or stop it") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()

    def begin(self, plan: dict[str, Any]) -> dict[str, Shard]:
        """Go on with a run of an equal plan, or start over.

        Args:
            plan: JSON values that decide the content of the shards; a field that differs starts the run over, and is logged.

        Returns:
            The finished shards by file name, their bytes checked. Every other file of the run before is deleted.
        """
        finished = {}
        if self._plan.is_file():
            if differing := self._differing(plan):
                logger.warning("%s: starts over, since the run before had another %s", self.folder, ", ".join(differing))
            else:
                finished = self._finished()
                logger.info("%s: goes on after %d finished shards", self.folder, len(finished))
        for work in self.folder.glob("work-*"):
            shutil.rmtree(work)
        self.work.mkdir()
        self.artifact.mkdir(exist_ok=True)
        for path in self.artifact.iterdir():
            if path.name not in finished:
                path.unlink()
        _write(self._records, "".join(_line(shard) for shard in finished.values()))
        _write(self._plan, json.dumps(plan, indent=1))
        return finished

    def _differing(self, plan: dict[str, Any]) -> list[str]:
        try:
            before = json.loads(self._plan.read_text())
        except ValueError:
            return ["plan (unreadable)"]
        return sorted(name for name in plan.keys() | before.keys() if plan.get(name) != before.get(name))

    def _finished(self) -> dict[str, Shard]:
        """Read the records; drop a half-written last line, and shards whose bytes did not reach the disk."""
        finished = {}
        for line in self._records.read_text().splitlines() if self._records.is_file() else ():
            try:
                content = json.loads(line)
                shard = Shard(**(content | {"shape": tuple(content["shape"])}))
                path = self.artifact / shard.file
                check_size(path, shard)
            except (ValueError, TypeError, KeyError, ArtifactError):
                continue
            if hash_file(path) == shard.sha256:
                finished[shard.file] = shard
        return finished

    def collect(self, finished: dict[str, Shard], results: Iterable[Shard], on_images: Callable[[int], None]) -> tuple[Shard, ...]:
        """Note each shard when it comes, so that a later run does not encrypt it again.

        Args:
            finished: what `begin` gave.
            results: the other shards, in any order, each written to `work`.
            on_images: told the number of images of each shard that comes.

        Returns:
            All shards in the order of their images.

        Raises:
            ArtifactError: a worker wrote to another file system.
        """
        shards = list(finished.values())
        for shard in results:
            try:
                (self.work / shard.file).replace(self.artifact / shard.file)
            except FileNotFoundError:
                raise ArtifactError(f"{self.work / shard.file}: a worker wrote this shard, but it is not here; {SHARED}") from None
            with self._records.open("a") as file:
                file.write(_line(shard))
            shards.append(shard)
            on_images(shard.num_images)
        return tuple(sorted(shards, key=lambda shard: shard.first_image))

    def finish(self, header: Header) -> None:
        """Write the header and move the artifact to its final folder. Cost: a rename, or one copy to another file system."""
        _write(self.artifact / HEADER_FILE, write_text(header))
        self.out_dir.parent.mkdir(parents=True, exist_ok=True)
        move_folder(self.artifact, self.out_dir)
        shutil.rmtree(self.folder)


def _write(path: Path, text: str) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(text)


def _line(shard: Shard) -> str:
    return json.dumps(asdict(shard)) + "\n"
