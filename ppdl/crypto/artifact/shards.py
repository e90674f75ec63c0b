"""Write shard files whole or not at all, and read them only when their bytes are right.

A shard is a `.npy` file (version 1.0, uint8, C order) whose 128-byte header follows from its shape (docs/format.md, section 4). The
reader compares those bytes instead of parsing them, so a hostile file meets no parser.
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from ppdl.crypto.artifact.fields import RESTORE, Shard
from ppdl.errors import ArtifactError

SHARED = "all workers must share one file system: keep the checkout on one that every node of the cluster mounts"


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Give the 128 bytes that begin the `.npy` file of a uint8 array, as numpy writes them."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.encode().ljust(117) + b"\n"


def write_blocks(path: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray], first_image: int, num_images: int) -> Shard:
    """Write one shard block by block; the file gets its name only when it is complete and on disk. After an exception no file is left.

    Args:
        shape: of the whole array.
        blocks: its rows, some at a time.
    Cost: one SHA-256 and one write of each block.
    """
    # A name of its own: a worker that its cluster gave up may still be writing this shard while another one does.
    temporary, digest, size = path.with_suffix(f".{secrets.token_hex(8)}.tmp"), hashlib.sha256(), 0
    try:
        file = temporary.open("wb")
    except FileNotFoundError:
        raise ArtifactError(f"{path.parent}: there is no such folder on the machine of this worker; {SHARED}") from None
    rows: Iterator[bytes | memoryview] = (np.ascontiguousarray(block, np.uint8).data.cast("B") for block in blocks)
    try:
        with file:
            for data in chain([npy_header(shape)], rows):
                file.write(data)
                digest.update(data)
                size += len(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Shard(path.name, shape, "|u1", size, digest.hexdigest(), first_image, num_images)


def write_shard(path: Path, array: np.ndarray, first_image: int, num_images: int) -> Shard:
    """Write a whole array as one shard."""
    return write_blocks(path, array.shape, [array], first_image, num_images)


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
