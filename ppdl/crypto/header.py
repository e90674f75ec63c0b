"""Read, check and write header.json of a PPDL/1 artifact (docs/format.md, section 3).

`Header` and its parts validate themselves, so a header in memory is a valid one. The file is the one canonical serialisation of its
header: `read_header` refuses any other bytes, so no byte of the file is without meaning.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ppdl.crypto.layout import Packing, check_int
from ppdl.errors import ArtifactError

FORMAT = "PPDL/1"
HEADER_FILE = "header.json"
MAX_HEADER_BYTES = 2**26  # 64 MiB hold more than 100,000 shards; more is not read into memory
MAX_COUNT = 2**40
NUM_SYMBOLS = 256
RESTORE = "restore the artifact (dvc pull) or encrypt again"
_NPY_HEADER_BYTES = 128  # what numpy writes for these shapes; a shape never needs more


def _check_text(name: str, value: object, pattern: str, rule: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ArtifactError(f"{name} must be {rule}, got {value!r}")


def _check_json(name: str, value: object) -> None:
    """Raise ArtifactError unless JSON gives back an equal value (so no NaN, tuple, or key that is not a string)."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            _check_json(f"{name}.{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_json(f"{name}[{index}]", item)
    elif isinstance(value, float) and not math.isfinite(value) or not isinstance(value, str | int | float | bool | None):
        raise ArtifactError(f"{name} must be a JSON value with finite numbers, got {value!r}")


@dataclass(frozen=True)
class Protection:
    """Name the protection that made the artifact, with the parameters it was made with (JSON values)."""

    name: str
    params: dict[str, Any]

    def __post_init__(self) -> None:
        _check_text("protection.name", self.name, r"[a-z][a-z0-9_-]{0,63}", "a lower-case name of up to 64 characters")
        if not isinstance(self.params, dict):
            raise ArtifactError(f"protection.params must be an object, got {self.params!r}")
        _check_json("protection.params", self.params)


@dataclass(frozen=True)
class Key:
    """Name the public key: SHA-256 fingerprint (hex), length of n in bits, and how obfuscators were drawn."""

    fingerprint: str
    key_bits: int
    obfuscator: str

    def __post_init__(self) -> None:
        _check_text("key.fingerprint", self.fingerprint, r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
        check_int("key.key_bits", self.key_bits, 64, 16384)
        _check_text("key.obfuscator", self.obfuscator, r"djn|standard", "'djn' or 'standard'")


@dataclass(frozen=True)
class Source:
    """Count the encrypted images and give their size in px. Nothing about their content: docs/format.md says why."""

    num_images: int
    height: int
    width: int

    def __post_init__(self) -> None:
        check_int("source.num_images", self.num_images, 1, MAX_COUNT)
        check_int("source.height", self.height, 1, 2**16)
        check_int("source.width", self.width, 1, 2**16)


@dataclass(frozen=True)
class Shard:
    """Describe one .npy file: its name, uint8 array, size, SHA-256, and the images it holds (none for the codebook)."""

    file: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    sha256: str
    first_image: int
    num_images: int

    def __post_init__(self) -> None:
        rule = "codebook.npy, indices-NNNNN.npy or ciphertexts-NNNNN.npy"
        _check_text("shard.file", self.file, r"codebook\.npy|(indices|ciphertexts)-\d{5,7}\.npy", rule)
        name = f"shard {self.file}"
        if not isinstance(self.shape, tuple) or len(self.shape) not in (2, 3):
            raise ArtifactError(f"{name}: shape must have 2 or 3 lengths, got {self.shape!r}")
        for length in self.shape:
            check_int(f"{name}: each length of the shape", length, 1, MAX_COUNT)
        _check_text(f"{name}: dtype", self.dtype, r"\|u1", "'|u1' (uint8)")
        check_int(f"{name}: bytes", self.bytes, 1, 2**62)
        if self.bytes != _NPY_HEADER_BYTES + math.prod(self.shape):
            expected = _NPY_HEADER_BYTES + math.prod(self.shape)
            raise ArtifactError(f"{name}: bytes must be {expected} for the shape {self.shape}, got {self.bytes}")
        _check_text(f"{name}: sha256", self.sha256, r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
        check_int(f"{name}: first_image", self.first_image, 0, MAX_COUNT)
        check_int(f"{name}: num_images", self.num_images, 0, MAX_COUNT)


@dataclass(frozen=True)
class Kind:
    """Tell the kinds of artifact apart: the stem of the shards' names, whether they hold ciphertexts, and the rule of the packing."""

    stem: str
    packed: bool
    packing_rule: str
    packing_fits: Callable[["Header"], bool]
    reveals: str


def _slots_fit(header: "Header") -> bool:
    if header.packing is None:
        return False
    stride = header.stride
    whole = (header.packing.plane_height * stride, header.packing.plane_width * stride)
    return whole == (header.source.height, header.source.width) and header.packing.planes == stride**2


KINDS = {
    "codebook": Kind(
        stem="indices",
        packed=False,
        packing_rule="null, since each pixel is a ciphertext of its own",
        packing_fits=lambda header: header.packing is None,
        reveals="equal pixels have equal ciphertexts under one shared obfuscator: without any key the pixel values can be put in order "
        "again from their neighbourhoods, and with the public key one division reads each difference of pixels exactly",
    ),
    "dense": Kind(
        stem="ciphertexts",
        packed=True,
        packing_rule="one plane of whole images in 8-bit slots",
        packing_fits=lambda header: _slots_fit(header) and header.packing.planes == 1 and header.packing.slot_bits == 8,
        reveals="each ciphertext has an obfuscator of its own: nothing about pixels, if decisional composite residuosity is hard",
    ),
    "slots": Kind(
        stem="ciphertexts",
        packed=True,
        packing_rule="stride * stride planes of height / stride by width / stride",
        packing_fits=_slots_fit,
        reveals="each ciphertext has an obfuscator of its own: nothing about pixels, if decisional composite residuosity is hard",
    ),
}


@dataclass(frozen=True)
class Header:
    """Hold everything that header.json says. Docs of the fields: docs/format.md.

    Raises:
        ArtifactError: a field breaks its rule, or the fields contradict one another.
    """

    kind: str
    confidential: bool
    reason: str
    protection: Protection
    key: Key
    source: Source
    packing: Packing | None
    num_ciphertexts: int
    ciphertext_bytes: int
    shards: tuple[Shard, ...]
    canary: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ArtifactError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if type(self.confidential) is not bool:
            raise ArtifactError(f"confidential must be true or false, got {self.confidential!r}")
        if self.confidential and not KINDS[self.kind].packed:
            raise ArtifactError(f"confidential must be false in kind {self.kind!r}, since {KINDS[self.kind].reveals}; got true")
        _check_text("reason", self.reason, r"[^\x00-\x1f\x7f-\x9f]{1,1000}", "one line of 1 to 1,000 characters")
        check_int("ciphertext_bytes", self.ciphertext_bytes, 2, 2**16)
        if self.ciphertext_bytes != ciphertext_bytes(self.key.key_bits):
            expected = ciphertext_bytes(self.key.key_bits)
            raise ArtifactError(f"ciphertext_bytes must be {expected} at {self.key.key_bits} bits, got {self.ciphertext_bytes}")
        if not KINDS[self.kind].packing_fits(self):
            raise ArtifactError(f"packing must be {KINDS[self.kind].packing_rule} in kind {self.kind!r}, got {self.packing}")
        if self.packing and self.packing.slots != (slots := slots_of(self.key.key_bits, self.packing.slot_bits)):
            bits = f"{self.packing.slot_bits} bits at {self.key.key_bits} bits"
            raise ArtifactError(f"packing.slots must be {slots} for slots of {bits}, got {self.packing.slots}")
        self._check_shards()
        if len(self.canary) != canary_ciphertexts(self.key.key_bits):
            raise ArtifactError(f"canary must have {canary_ciphertexts(self.key.key_bits)} ciphertexts, got {len(self.canary)}")
        for text in self.canary:
            digits = 2 * self.ciphertext_bytes
            _check_text("canary", text, f"[0-9a-f]{{{digits}}}", f"{digits} lower-case hexadecimal digits a ciphertext")

    @property
    def stride(self) -> int:
        """Side in px of the patches that the planes of pixels come from; 1 without a packing."""
        return max(self.source.height // self.packing.plane_height, 1) if self.packing else 1

    @property
    def total_bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def data_shards(self) -> tuple[Shard, ...]:
        """The shards that hold images: all but the codebook."""
        return self.shards if KINDS[self.kind].packed else self.shards[1:]

    def _check_shards(self) -> None:
        """Check that the shards are those which the kind, the source and the packing imply, in order, without gap or overlap."""
        expected, first, ciphertexts = [], 0, 0
        if not KINDS[self.kind].packed:
            expected.append(("codebook.npy", (NUM_SYMBOLS, self.ciphertext_bytes), 0, 0))
            ciphertexts = NUM_SYMBOLS
        for index, shard in enumerate(self.shards[len(expected) :]):
            if shard.num_images < 1:
                raise ArtifactError(f"shard {shard.file}: num_images must be >= 1, got {shard.num_images}")
            shape = self.shard_shape(shard.num_images)
            expected.append((shard_name(self.kind, index), shape, first, shard.num_images))
            first += shard.num_images
            ciphertexts += shape[0] if self.packing else 0
            if self.packing and first < self.source.num_images and shard.num_images % self.packing.images_per_group:
                raise ArtifactError(f"shard {shard.file}: num_images must be whole groups of {self.packing.images_per_group}")
        found = [(shard.file, shard.shape, shard.first_image, shard.num_images) for shard in self.shards]
        for want, got in zip(expected, found, strict=False):
            if want != got:
                raise ArtifactError(f"shard (file, shape, first_image, num_images) must be {want}, got {got}")
        if len(found) != len(expected) or first != self.source.num_images:
            raise ArtifactError(f"shards must hold source.num_images = {self.source.num_images} images, got {first}")
        if self.num_ciphertexts != ciphertexts or type(self.num_ciphertexts) is not int:
            raise ArtifactError(f"num_ciphertexts must be {ciphertexts} as the shards' shapes say, got {self.num_ciphertexts!r}")

    def shard_shape(self, num_images: int) -> tuple[int, ...]:
        """Give the shape of the array of a shard of `num_images` images."""
        if self.packing:
            return (self.packing.rows(num_images), self.ciphertext_bytes)
        return (num_images, self.source.height, self.source.width)

    def to_json(self) -> str:
        """Serialise canonically, with the digest of everything before it as last field."""
        content = {"format": FORMAT} | asdict(self)
        digest = hashlib.sha256(_dump(content).encode()).hexdigest()
        return _dump(content | {"header_sha256": digest})


def ciphertext_bytes(key_bits: int) -> int:
    """Size of a ciphertext: a number below n^2, big-endian, in whole bytes."""
    return (2 * key_bits + 7) // 8


def shard_name(kind: str, index: int) -> str:
    """Name the data shard `index`."""
    return f"{KINDS[kind].stem}-{index:05d}.npy"


CANARY_TAG = b"PPDL/1 canary\0\0\0"
CANARY_BYTES = len(CANARY_TAG) + hashlib.sha256().digest_size


def slots_of(key_bits: int, slot_bits: int) -> int:
    """Count the slots of a plaintext; 8 bits of it stay unused (ppdl.crypto.packing says why)."""
    return (key_bits - 8) // slot_bits


def canary_ciphertexts(key_bits: int) -> int:
    """Count the ciphertexts of the canary."""
    return -(-CANARY_BYTES // slots_of(key_bits, 8))


def _dump(content: dict) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ArtifactError(f"a field occurs twice among {[name for name, _ in pairs]}")
    return content


def _build(cls: type, content: object, where: str) -> Any:
    """Build a dataclass from a JSON object that has exactly its fields."""
    names = [field.name for field in fields(cls)]
    if not isinstance(content, dict):
        raise ArtifactError(f"{where} must be an object, got {content!r}")
    if unknown := sorted(set(content) - set(names)):
        raise ArtifactError(f"{where} has unknown fields {unknown}; allowed are {names}")
    if missing := sorted(set(names) - set(content)):
        raise ArtifactError(f"{where} lacks the fields {missing}")
    return cls(**content)


def _tuple(content: object, where: str) -> tuple:
    if not isinstance(content, list):
        raise ArtifactError(f"{where} must be a list, got {content!r}")
    return tuple(content)


def _build_shard(content: object, where: str) -> Shard:
    if isinstance(content, dict) and "shape" in content:
        content = content | {"shape": _tuple(content["shape"], f"{where}.shape")}
    return _build(Shard, content, where)


_PARTS: dict[str, Callable[[Any], Any]] = {
    "protection": lambda content: _build(Protection, content, "protection"),
    "key": lambda content: _build(Key, content, "key"),
    "source": lambda content: _build(Source, content, "source"),
    "packing": lambda content: None if content is None else _build(Packing, content, "packing"),
    "shards": lambda content: tuple(_build_shard(item, f"shards[{i}]") for i, item in enumerate(_tuple(content, "shards"))),
    "canary": lambda content: _tuple(content, "canary"),
}


def parse_header(text: str) -> Header:
    """Build the header that `text` serialises.

    Raises:
        ArtifactError: not JSON, another version, a field missing, unknown, out of range or contradictory, a wrong digest, or a
            serialisation that is not the canonical one.
    """
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"not JSON: {error}") from None
    if not isinstance(content, dict) or next(iter(content), None) != "format":
        raise ArtifactError("must be a JSON object that begins with the field 'format', so this is no ppdl artifact")
    if (version := content.pop("format")) != FORMAT:
        raise ArtifactError(f"format must be {FORMAT!r}, got {version!r}; read it with the version of ppdl that wrote it")
    digest = content.pop("header_sha256", None)
    _check_text("header_sha256", digest, r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
    if hashlib.sha256(_dump({"format": FORMAT} | content).encode()).hexdigest() != digest:
        raise ArtifactError("header_sha256 does not fit the other fields: the header was damaged or edited")
    parts = {name: _PARTS[name](value) if name in _PARTS else value for name, value in content.items()}
    header = _build(Header, parts, "the header")
    if header.to_json() != text:
        raise ArtifactError("not the canonical serialisation of its fields: the file was reformatted or edited")
    return header


def read_header(folder: Path) -> Header:
    """Read and check the header of the artifact in `folder`.

    Raises:
        ArtifactError: no finished artifact there, or a header that `parse_header` refuses.
    """
    path = Path(folder) / HEADER_FILE
    if not path.is_file():
        raise ArtifactError(f"{path}: not found, so {folder} holds no finished artifact; {RESTORE}")
    if path.stat().st_size > MAX_HEADER_BYTES:
        raise ArtifactError(f"{path}: a header has at most {MAX_HEADER_BYTES} bytes, got {path.stat().st_size}; {RESTORE}")
    try:
        return parse_header(path.read_bytes().decode())
    except UnicodeDecodeError:
        raise ArtifactError(f"{path}: not UTF-8 text; {RESTORE}") from None
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}; {RESTORE}") from None
