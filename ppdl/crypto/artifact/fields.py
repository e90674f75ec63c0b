"""Parts of a PPDL/1 header that check themselves: protection, key, source, shard (docs/format.md, section 3)."""

import math
import re
from dataclasses import dataclass
from typing import Any

from ppdl.errors import ArtifactError

MAX_COUNT = 2**40
NPY_HEADER_BYTES = 128
RESTORE = "restore the artifact (dvc pull) or encrypt again"


def check_int(name: str, value: object, low: int, high: int) -> None:
    """Raise ArtifactError unless `value` is an int (no bool) in [low, high]."""
    if type(value) is not int or not low <= value <= high:
        raise ArtifactError(f"{name} must be an integer from {low} to {high}, got {quote(value)}")


def check_text(name: str, value: object, pattern: str, rule: str) -> None:
    """Raise ArtifactError unless `value` is a string that `pattern` matches whole."""
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ArtifactError(f"{name} must be {rule}, got {quote(value)}")


def check_json(name: str, value: object) -> None:
    """Raise ArtifactError unless JSON gives back an equal value (so no NaN, tuple, or key that is not a string)."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            check_json(f"{name}.{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_json(f"{name}[{index}]", item)
    elif not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise ArtifactError(f"{name} must be a JSON value with finite numbers, got {quote(value)}")


def quote(value: object) -> str:
    """Quote a found value, shortened: a hostile header does not get to fill the terminal."""
    text = ascii(value)
    return text if len(text) <= 100 else text[:97] + "..."


@dataclass(frozen=True)
class Protection:
    """Name the protection that made the artifact, with the parameters it was made with (JSON values)."""

    name: str
    params: dict[str, Any]

    def __post_init__(self) -> None:
        check_text("protection.name", self.name, r"[a-z][a-z0-9_-]{0,63}", "a lower-case name of up to 64 characters")
        if not isinstance(self.params, dict):
            raise ArtifactError(f"protection.params must be an object, got {quote(self.params)}")
        check_json("protection.params", self.params)


@dataclass(frozen=True)
class Key:
    """Name the public key: SHA-256 fingerprint (hex), length of n in bits, and how obfuscators were drawn."""

    fingerprint: str
    key_bits: int
    obfuscator: str

    def __post_init__(self) -> None:
        check_text("key.fingerprint", self.fingerprint, r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
        check_int("key.key_bits", self.key_bits, 64, 16384)
        check_text("key.obfuscator", self.obfuscator, r"djn|standard", "'djn' or 'standard'")


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
        check_text("shard.file", self.file, r"codebook\.npy|(indices|ciphertexts)-[0-9]{5,7}\.npy", rule)
        name = f"shard {self.file}"
        if not isinstance(self.shape, tuple) or len(self.shape) not in (2, 3):
            raise ArtifactError(f"{name}: shape must have 2 or 3 lengths, got {quote(self.shape)}")
        for length in self.shape:
            check_int(f"{name}: each length of the shape", length, 1, MAX_COUNT)
        check_text(f"{name}: dtype", self.dtype, r"\|u1", "'|u1' (uint8)")
        check_int(f"{name}: bytes", self.bytes, 1, 2**62)
        if self.bytes != (expected := NPY_HEADER_BYTES + math.prod(self.shape)):
            raise ArtifactError(f"{name}: bytes must be {expected} for the shape {self.shape}, got {self.bytes}")
        check_text(f"{name}: sha256", self.sha256, r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
        check_int(f"{name}: first_image", self.first_image, 0, MAX_COUNT)
        check_int(f"{name}: num_images", self.num_images, 0, MAX_COUNT)
