"""Build malformed artifacts: each attack takes a good artifact and breaks one rule of docs/format.md.

Attacks on fields compute the digests anew, as an attacker would: what refuses them is the rule, not a digest.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.crypto.artifact.shards import npy_header

KINDS = ("codebook", "dense", "slots")


def read(folder: Path) -> dict[str, Any]:
    """Read a header as plain JSON."""
    return json.loads((folder / "header.json").read_text())


def write(folder: Path, header: dict[str, Any], *, digest: bool = True) -> None:
    """Write a header canonically, with a digest that fits unless `digest` is false."""
    if digest:
        header.pop("header_sha256", None)
        header["header_sha256"] = hashlib.sha256(dump(header).encode()).hexdigest()
    (folder / "header.json").write_text(dump(header))


def dump(header: dict[str, Any]) -> str:
    """Serialise as the specification says, independently of the code under test."""
    return json.dumps(header, indent=1) + "\n"


def set_field(path: str, value: Any) -> Callable[[Path], None]:
    """Set the field at a path such as "shards.1.bytes"; a function computes it from the old value; `...` deletes it."""

    def attack(folder: Path) -> None:
        header = read(folder)
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        node = header
        for part in parents:
            node = node[part]
        if value is ...:
            del node[last]
        else:
            node[last] = value(node[last]) if callable(value) else value
        write(folder, header)

    return attack


def set_text(text: str | bytes | Callable[[str], str]) -> Callable[[Path], None]:
    """Replace the text of header.json."""

    def attack(folder: Path) -> None:
        path = folder / "header.json"
        new = text(path.read_text()) if callable(text) else text
        path.write_bytes(new if isinstance(new, bytes) else new.encode())

    return attack


def change_array(index: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Change the array of shard `index`, and make its header, digest and size fit."""

    def attack(folder: Path) -> None:
        header = read(folder)
        shard = header["shards"][index]
        array = change(np.load(folder / shard["file"]).copy())
        replace_file(folder, index, npy_header(array.shape) + array.tobytes())

    return attack


def replace_file(folder: Path, index: int, data: bytes) -> None:
    """Replace the bytes of shard `index`, and make the digest in the header fit."""
    header = read(folder)
    shard = header["shards"][index]
    (folder / shard["file"]).write_bytes(data)
    shard["sha256"] = hashlib.sha256(data).hexdigest()
    write(folder, header)


def in_file(index: int, change: Callable[[bytes], bytes], *, digest: bool = False) -> Callable[[Path], None]:
    """Change the bytes of the file of shard `index`; with `digest`, the header's digest of it is made to fit."""

    def attack(folder: Path) -> None:
        path = folder / read(folder)["shards"][index]["file"]
        data = change(path.read_bytes())
        if digest:
            replace_file(folder, index, data)
        else:
            path.write_bytes(data)

    return attack


def swap_files(a: int, b: int) -> Callable[[Path], None]:
    """Swap the files of two shards."""

    def attack(folder: Path) -> None:
        names = [folder / read(folder)["shards"][i]["file"] for i in (a, b)]
        data = [name.read_bytes() for name in names]
        names[0].write_bytes(data[1])
        names[1].write_bytes(data[0])

    return attack
