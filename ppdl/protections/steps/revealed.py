"""The folder that a key holder writes for the trainer: `view.npy` and `header.json`, nothing else.

    view.npy      (num_images, height, width, channels) int16 in C order; value * scale + offset lies in [-1, 1]
    header.json   the fields of `RevealedHeader`, with `format` first

The digest of view.npy detects damage; it authenticates nothing.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ppdl.crypto.artifact.shards import hash_file
from ppdl.errors import ArtifactError, ConfigError
from ppdl.records.atomic import move_folder
from ppdl.records.reading import read_object
from ppdl.records.typecheck import check_types

FORMAT = "PPDL-VIEW/1"
HEADER_FILE, VIEW_FILE = "header.json", "view.npy"
_DTYPE, _ITEM_BYTES = "<i2", 2
_AGAIN = "restore it (dvc pull) or reveal again (`dvc repro`)"


@dataclass(frozen=True)
class RevealedHeader:
    """Say what was revealed, of which ciphertexts, and what that was checked against.

    Attributes:
        protection, params: name of the protection; parameters of its steps, for a sweep to be compared with.
        key_fingerprint, key_bits: of the key pair.
        source_sha256, sums_sha256: of the header files of the source's artifact and of the outputs.
        num_ciphertexts, source_bytes, sums_bytes: size of both.
        source_pixels: pixels of all encrypted images.
        filters: integer weights, (channels, stride * stride).
        centre, limit, sigma: of each channel, in units of the output (ppdl.protections.steps.release).
        noise_secret: name of the secret that the noise was drawn with; None without noise.
        num_columns, num_checked: columns of outputs, and how many of them were computed again.
        shape: of the view. scale, offset: of its values.
        view_sha256: of the file view.npy.
    """

    protection: str
    params: dict[str, Any]
    key_fingerprint: str
    key_bits: int
    source_sha256: str
    sums_sha256: str
    num_ciphertexts: int
    source_bytes: int
    sums_bytes: int
    source_pixels: int
    filters: list[list[int]]
    centre: list[int]
    limit: list[int]
    sigma: list[float]
    noise_secret: str | None
    num_columns: int
    num_checked: int
    shape: list[int]
    scale: float
    offset: float
    view_sha256: str


@dataclass(frozen=True, eq=False)
class Revealed:
    """A revealed view: its header, and its array (num_images, height, width, channels) int16, memory-mapped."""

    header: RevealedHeader
    array: np.ndarray


class RevealedWriter:
    """Write a view block by block where an interrupted run can go on, and move it into place when it is whole.

        PARTIAL/plan.json   the header of what is being written; a run whose header differs starts over
        PARTIAL/done        first image of each block that is on disk, one a line
        PARTIAL/view/       view.npy, and at last header.json; moved to the final folder

    Args:
        folder: PARTIAL, on the key holder's machine.
        out_dir: the final folder; must be missing or empty.
        header: complete but for view_sha256.

    Raises:
        ArtifactError: `out_dir` is in use.
    """

    def __init__(self, folder: Path, out_dir: Path, header: RevealedHeader) -> None:
        self._folder, self._out_dir, self._header = Path(folder), Path(out_dir), header
        self._plan, self._done, self._view = (self._folder / name for name in ("plan.json", "done", "view"))
        self.done: set[int] = set()

    def __enter__(self) -> RevealedWriter:
        if self._out_dir.exists() and (not self._out_dir.is_dir() or any(self._out_dir.iterdir())):
            raise ArtifactError(f"{self._out_dir}: a view is written to a new or empty folder, found one in use; remove it first")
        plan, path = _text(self._header), self._view / VIEW_FILE
        begin, self._row_bytes = _npy_header(self._header.shape), math.prod(self._header.shape[1:]) * _ITEM_BYTES
        self._first_row, size = len(begin), len(begin) + self._header.shape[0] * self._row_bytes
        known = self._plan.is_file() and self._plan.read_text(encoding="utf-8") == plan
        if known and path.is_file() and path.stat().st_size == size:
            self.done = {int(line) for line in self._done.read_text().splitlines() if line.isdecimal()}
            self._file = path.open("r+b")
            return self
        shutil.rmtree(self._folder, ignore_errors=True)
        self._view.mkdir(parents=True)
        # Written to, not mapped: a full disk is an error of a write, but kills a process that touches a page of a map.
        self._file = path.open("w+b")
        self._file.write(begin)
        self._file.truncate(size)
        self._done.write_text("")
        self._plan.write_text(plan, encoding="utf-8")  # last: without it, the next run starts over
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def add(self, first_image: int, values: np.ndarray) -> None:
        """Write the rows from `first_image` on, (num_images, height, width, channels) int16."""
        self._file.seek(self._first_row + first_image * self._row_bytes)
        self._file.write(np.ascontiguousarray(values, _DTYPE).tobytes())
        self._file.flush()
        os.fsync(self._file.fileno())  # on disk before it is called done
        with self._done.open("a") as file:
            file.write(f"{first_image}\n")

    def finish(self) -> RevealedHeader:
        """Write the header, move the folder into place, and return the header."""
        header = replace(self._header, view_sha256=hash_file(self._view / VIEW_FILE))
        (self._view / HEADER_FILE).write_text(_text(header), encoding="utf-8")
        self._out_dir.parent.mkdir(parents=True, exist_ok=True)
        move_folder(self._view, self._out_dir)
        shutil.rmtree(self._folder)
        return header


def _npy_header(shape: list[int]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": _DTYPE, "fortran_order": False, "shape": tuple(shape)})
    return buffer.getvalue()


def _text(header: RevealedHeader) -> str:
    return json.dumps({"format": FORMAT} | asdict(header), indent=1, allow_nan=False) + "\n"


def read_header(folder: Path) -> RevealedHeader:
    """Read header.json.

    Raises:
        ArtifactError: missing, of another format, or with other fields.
    """
    path = Path(folder) / HEADER_FILE
    content = read_object(path, ArtifactError, missing=f"nothing was revealed here to the end; {_AGAIN}", damaged=_AGAIN, form=FORMAT)
    names = {field.name for field in fields(RevealedHeader)}
    if set(content) != names:
        raise ArtifactError(f"{path}: fields must be {sorted(names)}, found {sorted(content)}; {_AGAIN}")
    try:
        check_types(RevealedHeader, content, "header")
    except ConfigError as error:
        raise ArtifactError(f"{path}: {error}; {_AGAIN}") from None
    return RevealedHeader(**content)


def view_path(folder: Path) -> Path:
    """Return the place of view.npy, or raise ArtifactError when it is missing."""
    path = Path(folder) / VIEW_FILE
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; {_AGAIN}")
    return path


def read_revealed(folder: Path) -> Revealed:
    """Open a revealed view.

    Raises:
        ArtifactError: a file is missing or damaged, or they do not fit together.

    Cost: reads view.npy once, for its digest.
    """
    header, path = read_header(folder), view_path(folder)
    if (found := hash_file(path)) != header.view_sha256:
        raise ArtifactError(f"{path}: damaged: SHA-256 must be {header.view_sha256}, found {found}; {_AGAIN}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python: SyntaxError, TokenError, OverflowError and more
        raise ArtifactError(f"{path} cannot be read: {error}; {_AGAIN}") from None
    rule = f"{path} must hold one int16 array {header.shape} in C order"
    if not isinstance(array, np.memmap):
        raise ArtifactError(f"{rule}, found {type(array).__name__}; {_AGAIN}")
    if array.dtype != np.int16 or list(array.shape) != header.shape or array.ndim != 4 or not array.flags.c_contiguous:
        raise ArtifactError(f"{rule}, found {array.dtype} {array.shape}; {_AGAIN}")
    return Revealed(header, array)
