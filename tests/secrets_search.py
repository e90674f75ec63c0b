"""Search files for the private parts of a key, in every form in which a program might have written them.

`find_private_key(private_key, paths)`, for each of `private_keys(folder)`, is for any tree: a repository, a DVC cache, an MLflow store,
captured logs. The numbers p, q, lambda and phi are looked for in decimal, hexadecimal, base64, base64url (at each of the three alignments)
and raw bytes of both orders; archives (zip, so .keras and .npz too) and gzip files are opened. Pieces from the beginning, the middle and
the end of each form are enough for a match, since databases cut long values and logs shorten them.
"""

import base64
import gzip
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ppdl.crypto.keys.keyfile import load_private
from ppdl.crypto.keys.keypair import PrivateKey

PIECE_BYTES = 20  # 66 bits in decimal, the weakest form: no match by chance
CHUNK_BYTES = 2**24


@dataclass(frozen=True)
class Find:
    """Say where private bytes were found, without saying them."""

    path: str
    number: str
    form: str


def find_private_key(private_key, paths: Iterable[Path]) -> list[Find]:
    """Search files and folders (recursively).

    Args:
        private_key: anything with p and q.
        paths: files or folders; a path that does not exist is an error, since searching nothing finds nothing.

    Returns:
        What was found, one entry for each file, number and form; empty when all is well.
    """
    pieces = private_pieces(private_key)
    finds = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                finds += _find_in_file(file, pieces)
    return finds


def private_keys(private_dir: Path) -> list[PrivateKey]:
    """Load every Paillier key of a folder of private keys, whatever it is for."""
    files = (path for path in sorted(private_dir.glob("*.json")) if re.fullmatch("[0-9a-f]{64}", path.stem))
    return [load_private(path, purpose=None) for path in files]


def find_in_bytes(private_key, data: bytes, name: str = "bytes") -> list[Find]:
    """Search bytes, such as a pickle."""
    return _match(name, [data], private_pieces(private_key))


def private_pieces(private_key) -> dict[tuple[str, str], list[bytes]]:
    """Give the pieces to look for, by number and form."""
    p, q = int(private_key.p), int(private_key.q)
    public = dict(_forms(p * q))  # phi begins as n does, so that is no secret
    numbers = {"p": p, "q": q, "lambda": math.lcm(p - 1, q - 1), "phi": (p - 1) * (q - 1)}
    return {
        (name, form): [piece for piece in _cut(text) if piece not in public[form]]
        for name, number in numbers.items()
        for form, text in _forms(number)
        if len(text) >= PIECE_BYTES or form.startswith("raw")
    }


def _forms(number: int) -> Iterator[tuple[str, bytes]]:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    yield "decimal", str(number).encode()
    yield "hexadecimal", f"{number:x}".encode()
    yield "HEXADECIMAL", f"{number:X}".encode()
    yield "raw big-endian", raw
    yield "raw little-endian", raw[::-1]
    for form, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
        for shift in range(3):
            # what stands before and after shares a character with the number's first and last bits: leave those out
            text = encode(bytes(shift) + raw).rstrip(b"=")
            yield f"{form}, alignment {shift}", text[2 * shift : -2]


def _cut(text: bytes) -> list[bytes]:
    middle = max(len(text) - PIECE_BYTES, 0) // 2
    return list(dict.fromkeys([text[:PIECE_BYTES], text[middle : middle + PIECE_BYTES], text[-PIECE_BYTES:]]))


def _find_in_file(file: Path, pieces: dict[tuple[str, str], list[bytes]]) -> list[Find]:
    with file.open("rb") as stream:
        finds = _match(str(file), _chunks(stream), pieces)
    return finds + _find_in_archive(file, pieces)


def _find_in_archive(file: Path, pieces: dict[tuple[str, str], list[bytes]]) -> list[Find]:
    """Search what a file packs. Ciphertexts are random bytes and now and then begin or end as an archive does: those hold no members."""
    finds = []
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for member in archive.namelist():
                    with archive.open(member) as stream:
                        finds += _match(f"{file}:{member}", _chunks(stream), pieces)
        else:
            with gzip.open(file) as stream:
                finds += _match(f"{file}:gzip", _chunks(stream), pieces)
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error):
        pass  # no archive, or one cut short: its bytes were searched as they are
    return finds


def _chunks(stream) -> Iterator[bytes]:
    """Read a stream in blocks that overlap by a piece."""
    tail = b""
    while block := stream.read(CHUNK_BYTES):
        yield tail + block
        tail = (tail + block)[-PIECE_BYTES:]


def _match(name: str, chunks: Iterable[bytes], pieces: dict[tuple[str, str], list[bytes]]) -> list[Find]:
    found = {key: None for chunk in chunks for key, texts in pieces.items() if any(text in chunk for text in texts)}
    return [Find(name, number, form) for number, form in found]
