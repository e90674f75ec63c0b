"""The folder that a key holder writes for the trainer: `view.npy` and `header.json`, nothing else.

    view.npy      (num_images, height, width, channels) int16 in C order; value * scale + offset lies in [-1, 1]
    header.json   the fields of `RevealedHeader`, with `format` first

The digest of view.npy detects damage; it authenticates nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.crypto.shards import hash_file
from ppdl.errors import ArtifactError

FORMAT = "PPDL-VIEW/1"
HEADER_FILE, VIEW_FILE = "header.json", "view.npy"
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
        centre, limit, sigma: of each channel, in units of the output (ppdl.protections.release).
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
    array: np.memmap


def write_header(folder: Path, header: RevealedHeader) -> None:
    """Write header.json; the last step, so that a folder with a header is whole."""
    text = json.dumps({"format": FORMAT} | asdict(header), indent=1, allow_nan=False) + "\n"
    (Path(folder) / HEADER_FILE).write_text(text, encoding="utf-8")


def read_header(folder: Path) -> RevealedHeader:
    """Read header.json.

    Raises:
        ArtifactError: missing, of another format, or with other fields.
    """
    path = Path(folder) / HEADER_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing, so nothing was revealed here to the end; {_AGAIN}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; {_AGAIN}") from None
    found = content.pop("format", None) if isinstance(content, dict) else None
    if found != FORMAT:
        raise ArtifactError(f"{path}: format must be {FORMAT!r}, found {found!r}; {_AGAIN}")
    names = {field.name for field in fields(RevealedHeader)}
    if set(content) != names:
        raise ArtifactError(f"{path}: fields must be {sorted(names)}, found {sorted(content)}; {_AGAIN}")
    return RevealedHeader(**content)


def read_revealed(folder: Path) -> Revealed:
    """Open a revealed view.

    Raises:
        ArtifactError: a file is missing or damaged, or they do not fit together.

    Cost: reads view.npy once, for its digest.
    """
    header, path = read_header(folder), Path(folder) / VIEW_FILE
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; {_AGAIN}")
    if (found := hash_file(path)) != header.view_sha256:
        raise ArtifactError(f"{path}: damaged: SHA-256 must be {header.view_sha256}, found {found}; {_AGAIN}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; {_AGAIN}") from None
    rule = f"{path} must hold one int16 array {header.shape} in C order"
    if not isinstance(array, np.memmap):
        raise ArtifactError(f"{rule}, found {type(array).__name__}; {_AGAIN}")
    if array.dtype != np.int16 or list(array.shape) != header.shape or array.ndim != 4 or not array.flags.c_contiguous:
        raise ArtifactError(f"{rule}, found {array.dtype} {array.shape}; {_AGAIN}")
    return Revealed(header, array)
