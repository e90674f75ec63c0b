"""Read Paillier ciphertexts that are whole numbers: text, JSON as users of python-paillier write it, arrays of strings.

A number is decimal, or hexadecimal where a letter is anywhere in its file. Numbers are read in order; an image is

- a file, or what stands between blank lines, whose lines are rows of pixels: "1 2 3", "1,2,3", "[1, 2, 3]";
- a file with one number a line, or all in one: a square;
- in JSON and arrays, what nesting or shape says: (height, width), (images, height, width), or numbers one after another, as above.

JSON numbers may be those of python-paillier with their exponents: {"v": "123", "e": 0}, as `pheutil encrypt` prints them (one document, or
one a line), ["123", 0], and lists of such as "values" beside "public_key": {"n": ...}.

Source: python-paillier 1.5, phe/command_line.py, and its documentation, "Serialisation".
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ppdl.audit.attacks.as_is import at_size
from ppdl.audit.examination.base import Symbols, Target
from ppdl.audit.folder.pictures import ARRAY_SUFFIXES, MAX_SYMBOLS, SMALLEST_PX, Pictures, arrays_of, check_bytes, files_below, to_picture
from ppdl.crypto.keys.jwk import check_composite
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.datasets.images.image_io import PICTURE_SUFFIXES
from ppdl.errors import CryptoError, DataError

JSON_SUFFIXES = frozenset({".json", ".jsonl"})
TEXT_SUFFIXES = JSON_SUFFIXES | {".txt", ".csv"}
_SEPARATORS = re.compile(r"[\s,;\[\](){}'\"]+")
_BLANKS = re.compile(r"\s*")
_DECIMAL, _HEX = (
    re.compile(r"[0-9]{1,4300}"),
    re.compile(r"(?:0[xX])?[0-9a-fA-F]{1,4300}"),
)  # Python reads no longer decimal
_EXPONENT = re.compile(r"-?[0-9]{1,6}")
_SHOWN_BYTES = 6  # of a number in its picture, from the highest that is used


@dataclass(frozen=True, eq=False)
class Integers(Pictures):
    """Hold ciphertexts as they were found: values (num_images, height, width, ciphertext_bytes) uint8, big-endian; public_key: theirs."""

    public_key: PublicKey


@dataclass(frozen=True, eq=False)
class _Numbers:
    """Hold the numbers of a file: as text, in which shape, where each stands, with which exponents, and n of the key beside them."""

    texts: list[str]
    shape: tuple[int, ...]
    where: Callable[[int], str]
    exponents: list[str] | None = None
    n: str | None = None


def holds_integers(path: Path) -> bool:
    """Tell whether a path is a text or JSON file, or a folder with such and without pictures and arrays."""
    suffixes = {file.suffix.lower() for file in (path.rglob("*") if path.is_dir() else [path])}
    return bool(suffixes & TEXT_SUFFIXES) and not suffixes & (PICTURE_SUFFIXES | ARRAY_SUFFIXES)


def read_integers(path: Path, public_key: PublicKey | None, size: tuple[int, int] | None, *, max_images: int) -> Integers:
    """Read a folder (nested or not) of files with ciphertexts, one for each pixel, or one such file.

    Args:
        public_key: None: the one that stands in the files.
        size: width and height of an image; None: what the files say, see above.
        max_images: keep at most as many, evenly spaced.

    Raises:
        DataError: something is no ciphertext under the key, exponents or sizes differ, or a file is unreadable, too large, or a pickle.
    """
    files = files_below(path, TEXT_SUFFIXES | ARRAY_SUFFIXES, "Paillier ciphertexts")
    check_bytes(path, sum(file.stat().st_size for file in files))
    names: list[str] = []
    parts: list[np.ndarray] = []
    keys: list[PublicKey] = []  # the same one for each file
    first: tuple[str, str] | None = None  # exponent, and where it stands
    for file in tqdm(files, desc=path.name, unit="file"):
        numbers = _read(file)
        keys.append(_key(file, numbers.n, keys[-1] if keys else public_key))
        for i, exponent in enumerate(numbers.exponents or ()):
            first = first or (exponent, f"{file}, {numbers.where(i)}")
            if exponent != first[0]:
                raise DataError(
                    f"{file}, {numbers.where(i)}: exponents must be equal, found {exponent}, and {first[0]} in {first[1]}. They are in "
                    "the clear and say how large a number is: audit them as an array of integers, or encode with one `precision`"
                )
        shape = _image_shape(file, numbers.shape, size)
        if parts and shape[1:] != parts[0].shape[1:3]:
            sizes = [f"{width} x {height} px" for height, width in (parts[0].shape[1:3], shape[1:])]
            raise DataError(f"images must have one size: {files[0]} has {sizes[0]}, {file} has {sizes[1]}")
        parts.append(_ciphertexts(file, numbers, keys[-1]).reshape(*shape, -1))
        stem = (file.relative_to(path) if path.is_dir() else Path(file.name)).with_suffix("").as_posix()
        names += [stem] if shape[0] == 1 else [f"{stem}-{i}" for i in range(shape[0])]
        check_bytes(path, sum(part.nbytes for part in parts))
    rows = np.linspace(0, len(names) - 1, min(max_images, len(names))).astype(int)
    return Integers(tuple(names[i] for i in rows), np.concatenate(parts)[rows], len(names), keys[-1])


def target_of_integers(name: str, found: Integers, prior: np.ndarray) -> Target:
    """Return what a thief has who finds the ciphertexts; the picture scales them to 0..255 by their least and largest, as papers do."""
    num_images, height, width, size = found.values.shape
    flat = found.values.reshape(-1, size)
    lead = int(np.argmax(flat.any(0)))
    shown = np.zeros(flat.shape[0], np.uint64)
    for column in flat[:, lead : lead + _SHOWN_BYTES].T:
        shown = shown << np.uint64(8) | column
    symbols = _symbols(flat, (num_images, height, width))
    return Target(
        name,
        num_images,
        height,
        width,
        symbols=symbols,
        ciphertexts=None if symbols else found.values.reshape(num_images, -1, size),
        public_key=found.public_key,
        picture=to_picture(shown.reshape(num_images, height, width)),
        prior=at_size(prior, height, width),
    )


def _symbols(flat: np.ndarray, shape: tuple[int, ...]) -> Symbols | None:
    """Return equal ciphertexts as symbols, unless they are too many, or none is equal to another."""
    codes: dict[bytes, int] = {}
    array = np.empty(len(flat), np.uint16)
    for i, ciphertext in enumerate(flat):
        array[i] = codes.setdefault(ciphertext.tobytes(), len(codes))
        if len(codes) > MAX_SYMBOLS:
            return None
    codebook = np.stack([np.frombuffer(ciphertext, np.uint8) for ciphertext in codes])
    return Symbols(array.reshape(shape), len(codes), codebook) if len(codes) < len(flat) else None


def _read(file: Path) -> _Numbers:
    suffix = file.suffix.lower()
    if suffix in ARRAY_SUFFIXES:
        array = next(arrays_of(file))
        if array.dtype.kind not in "USui":
            raise DataError(f"{file} must hold text or integers where a public key is given, found {array.dtype}")
        flat = array.ravel()
        texts = [text.decode("ascii", "replace") for text in flat.tolist()] if array.dtype.kind == "S" else list(map(str, flat.tolist()))
        return _Numbers(texts, array.shape, lambda i: f"place {[int(k) for k in np.unravel_index(i, array.shape)]}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{file} is unreadable: it must be text in UTF-8") from None
    return _read_json(file, text) if suffix in JSON_SUFFIXES else _read_lines(file, text)


def _read_lines(file: Path, text: str) -> _Numbers:
    lines = [[word for word in _SEPARATORS.split(line) if word] for line in text.splitlines()]
    texts = [word for words in lines for word in words]

    def where(i: int) -> str:
        for number, words in enumerate(lines, 1):
            if i < len(words):
                return f"line {number}, number {i + 1}"
            i -= len(words)
        raise IndexError(i)

    widths = [len(words) for words in lines if words]
    if len(widths) == 1 or set(widths) <= {1}:
        return _Numbers(texts, (len(texts),), where)
    heights = [len(list(block)) for filled, block in groupby(lines, bool) if filled]
    if len(set(widths)) > 1 or len(set(heights)) > 1:
        odd, what = (widths, "numbers a line") if len(set(widths)) > 1 else (heights, "lines between blank ones")
        raise DataError(f"{file} must have as many {what} throughout, found {sorted(set(odd))[0]} to {sorted(set(odd))[-1]}")
    return _Numbers(texts, (*(heights[1:] and [len(heights)]), heights[0], widths[0]), where)


def _read_json(file: Path, text: str) -> _Numbers:
    decoder, documents, place = json.JSONDecoder(parse_int=str, parse_float=str), list[Any](), 0
    try:
        while (place := _BLANKS.match(text, place).end()) < len(text):  # type: ignore[union-attr]  # it matches nothing as well
            document, place = decoder.raw_decode(text, place)
            documents.append(document)
    except (ValueError, RecursionError):
        raise DataError(f"{file} must be JSON, one document or one a line: what follows number {len(documents)} is not") from None
    content: Any = documents[0] if len(documents) == 1 else documents
    n = None
    if isinstance(content, dict) and "values" in content:
        key, content = content.get("public_key"), content["values"]
        n = str(key["n"]) if isinstance(key, dict) and "n" in key else None
    level, shape = [content], list[int]()
    while level and all(isinstance(item, list) and not _is_pair(item) for item in level):
        lengths = {len(item) for item in level}
        if len(lengths) > 1:
            raise DataError(f"{file} must have lists of one length at depth {len(shape)}, found {min(lengths)} to {max(lengths)}")
        shape.append(lengths.pop())
        level = [item for items in level for item in items]
    texts, exponents = list[str](), list[str]()
    for i, item in enumerate(level):
        value, exponent = (item.get("v"), item.get("e")) if isinstance(item, dict) else item if _is_pair(item) else (item, "0")
        if isinstance(value, str) and isinstance(exponent, str) and _EXPONENT.fullmatch(exponent):
            texts.append(value)
            exponents.append(exponent)
        else:
            raise DataError(f'{file}, number {i + 1} must be {{"v": "123", "e": 0}}, ["123", 0] or "123", found {ascii(level[i])[:60]}')
    return _Numbers(texts, tuple(shape) or (1,), lambda i: f"number {i + 1}", exponents, n)


def _is_pair(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item)


def _key(file: Path, n: str | None, public_key: PublicKey | None) -> PublicKey:
    if n is not None and _DECIMAL.fullmatch(n):
        if public_key is None:
            try:
                public_key = PublicKey(int(n))
            except CryptoError as error:
                raise DataError(f"{file}: {error}") from None
            check_composite(public_key, file)
        if public_key.n != int(n):
            raise DataError(f"{file} is under another key: its n is not that of the public key that is given, or of the file before")
    if public_key is None:
        raise DataError(f"{file} holds no public key: give --public-key FILE, as `pheutil extract` writes it")
    return public_key


def _image_shape(file: Path, shape: tuple[int, ...], size: tuple[int, int] | None) -> tuple[int, int, int]:
    """Return number, height and width of the images."""
    count = math.prod(shape)
    if size is not None:
        width, height = size
        if count == 0 or count % (width * height):
            raise DataError(f"{file} must hold images of {width} x {height} numbers, found {count} numbers")
        return count // (width * height), height, width
    if len(shape) == 1:
        side = math.isqrt(count)
        if side * side != count:
            raise DataError(f"{file} must hold a square image where no line is a row of pixels, found {count} numbers: give --size")
        shape = (side, side)
    elif len(shape) == 2 and shape[0] != shape[1] and math.isqrt(shape[1]) >= SMALLEST_PX and math.isqrt(shape[1]) ** 2 == shape[1]:
        side = math.isqrt(shape[1])
        raise DataError(
            f"{file} may hold one image of {shape[1]} x {shape[0]} px or {shape[0]} of {side} x {side}: say which, "
            f"--size {shape[1]} {shape[0]} or --size {side} {side}"
        )
    if len(shape) not in (2, 3):
        raise DataError(f"{file} must have the shape (images, height, width), found {shape}: audit the channels of a colour image apart")
    number, height, width = (1, *shape) if len(shape) == 2 else shape
    if min(height, width) < SMALLEST_PX:
        raise DataError(f"images in {file} must be at least {SMALLEST_PX} x {SMALLEST_PX} px, found {width} x {height}: give --size")
    return number, height, width


def _ciphertexts(file: Path, numbers: _Numbers, key: PublicKey) -> np.ndarray:
    """Return the numbers of a file, (k, ciphertext_bytes) uint8."""
    bad = next((i for i, text in enumerate(numbers.texts) if not _HEX.fullmatch(text)), None)
    if bad is not None:
        raise DataError(
            f"{file}, {numbers.where(bad)} must be a whole number of at most 4,300 digits, found {ascii(numbers.texts[bad])[:40]}"
        )
    hexadecimal = not all(map(_DECIMAL.fullmatch, numbers.texts))
    packed, product = [], 1
    for i, text in enumerate(numbers.texts):
        value = int(text, 16 if hexadecimal else 10)
        if not 0 < value < key.n_squared:
            what = f"a number of {value.bit_length()} bits: another key?" if value else "0: gray values are audited without a key"
            raise DataError(f"{file}, {numbers.where(i)} must be above 0 and below n^2 ({key.n_squared.bit_length()} bits), found {what}")
        packed.append(value.to_bytes(key.ciphertext_bytes, "big"))
        product = product * value % key.n
    if math.gcd(product, key.n) != 1:
        i = next(i for i, value in enumerate(packed) if math.gcd(int.from_bytes(value, "big"), key.n) != 1)
        raise DataError(f"{file}, {numbers.where(i)} must have no factor in common with n, and has: it is no ciphertext")
    return np.frombuffer(b"".join(packed), np.uint8).reshape(len(packed), -1)
