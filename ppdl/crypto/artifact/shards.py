"""Write shard files whole or not at all, and read them only when their bytes are right.

A shard is a `.npy` file (version 1.0, uint8, C order) whose 128-byte header follows from its shape (docs/format.md, section 4). The
reader compares those bytes instead of parsing them, so a hostile file meets no parser.
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from ppdl.crypto.artifact.fields import RESTORE, Shard
from ppdl.errors import ArtifactError

SHARED = "all workers must share one file system: keep the checkout on one that every node of the cluster mounts"


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Give the 128 bytes that begin the `.npy` file of a uint8 array, as numpy writes them."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.encode().ljust(117) + b"\n"


class ShardWriter:
    """Write one shard block by block; the file gets its name only when it is complete and on disk.

    Use as a context manager, `write` blocks of rows, then read `.shard`. After an exception no file is left.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], first_image: int, num_images: int) -> None:
        self._path, self._shape, self._images = Path(path), shape, (first_image, num_images)
        # A name of its own: a worker that its cluster gave up may still be writing this shard while another one does.
        self._temporary = self._path.with_suffix(f".{secrets.token_hex(8)}.tmp")
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._shard: Shard | None = None

    def __enter__(self) -> "ShardWriter":
        try:
            self._file = self._temporary.open("wb")
        except FileNotFoundError:
            raise ArtifactError(f"{self._path.parent}: there is no such folder on the machine of this worker; {SHARED}") from None
        self._append(npy_header(self._shape))
        return self

    def _append(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._bytes += len(data)

    def write(self, block: np.ndarray) -> None:
        """Append rows. Cost: one SHA-256 and one write of the block."""
        self._append(np.ascontiguousarray(block, np.uint8).data.cast("B"))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if error is not None:
            self._temporary.unlink(missing_ok=True)
            return
        first_image, num_images = self._images
        sha256 = self._hash.hexdigest()
        self._shard = Shard(self._path.name, self._shape, "|u1", self._bytes, sha256, first_image, num_images)
        self._temporary.replace(self._path)

    @property
    def shard(self) -> Shard:
        """Describe the file. Raises: ArtifactError while it is not whole."""
        if self._shard is None:
            raise ArtifactError(f"{self._path}: this shard is not written to the end, so nothing can be said of it")
        return self._shard


def write_shard(path: Path, array: np.ndarray, first_image: int, num_images: int) -> Shard:
    """Write a whole array as one shard."""
    with ShardWriter(path, array.shape, first_image, num_images) as writer:
        writer.write(array)
    return writer.shard


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file in constant memory."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_size(path: Path, shard: Shard) -> None:
    """Raise ArtifactError unless the file is there, is a regular file, and has the shard's size. Cost: one stat."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ArtifactError(f"{path}: the header lists this shard, but the file is missing; {RESTORE}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{path}: a shard must be a regular file, found another kind; {RESTORE}")
    if status.st_size != shard.bytes:
        fault = "truncated" if status.st_size < shard.bytes else "too long"
        raise ArtifactError(f"{path}: {fault}: the header says {shard.bytes} bytes, found {status.st_size}; {RESTORE}")


def read_shard(path: Path, shard: Shard, siblings: Sequence[Shard] = ()) -> np.memmap:
    """Verify a shard and memory-map it, read-only.

    Raises:
        ArtifactError: the file is missing, of another size, damaged, the file of one of `siblings`, or not the array it should be.

    Cost: reads the file once.
    """
    check_size(path, shard)
    found = hash_file(path)
    if found != shard.sha256:
        for other in siblings:
            if other.sha256 == found:
                raise ArtifactError(f"{path}: holds the bytes of {other.file}: shards were swapped or renamed; {RESTORE}")
        raise ArtifactError(f"{path}: damaged: SHA-256 must be {shard.sha256}, found {found}; {RESTORE}")
    begin = npy_header(shard.shape)
    with path.open("rb") as file:
        if file.read(len(begin)) != begin:
            raise ArtifactError(f"{path}: must begin as the .npy file of a uint8 array {shard.shape} in C order; {RESTORE}")
    return np.memmap(path, np.uint8, "r", offset=len(begin), shape=shard.shape)
