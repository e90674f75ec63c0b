"""The header of a PPDL/1 artifact in memory: what kinds there are, and how the fields must fit together (docs/format.md, section 3).

`Header` and its parts validate themselves, so a header in memory is a valid one. header_file.py reads and writes it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ppdl.crypto.artifact.fields import Key, Protection, Shard, Source, check_int, check_text, quote
from ppdl.crypto.artifact.layout import Packing
from ppdl.errors import ArtifactError

FORMAT = "PPDL/1"
NUM_SYMBOLS = 256
CANARY_TAG = b"PPDL/1 canary\0\0\0"
CANARY_BYTES = len(CANARY_TAG) + hashlib.sha256().digest_size
_HIDDEN = "each ciphertext has an obfuscator of its own: nothing about the pixels, if decisional composite residuosity is hard"


@dataclass(frozen=True)
class Kind:
    """Describe a kind of artifact.

    Attributes:
        stem: how the names of its data shards begin.
        packed: its shards hold packed ciphertexts, else indices into a codebook.
        packing_rule: what its packing must be, in words.
        packing_fits: whether a header's packing is that.
        reveals: what whoever holds the artifact and the public key learns about pixels.
        pixels: it holds images, else what was computed from them.
    """

    stem: str
    packed: bool
    packing_rule: str
    packing_fits: Callable[["Header"], bool]
    reveals: str
    pixels: bool = True


def _is_planes_by_phase(header: "Header") -> bool:
    packing, stride = header.packing, header.stride
    whole = packing and (packing.plane_height * stride, packing.plane_width * stride, packing.planes)
    return whole == (header.source.height, header.source.width, stride**2)


def _is_dense(header: "Header") -> bool:
    return _is_planes_by_phase(header) and (header.packed_as.planes, header.packed_as.slot_bits) == (1, 8)


def _is_slots(header: "Header") -> bool:
    return _is_planes_by_phase(header) and header.packed_as.slot_bits > 8


def _is_sums(header: "Header") -> bool:
    packing, stride = header.packing, header.stride
    whole = packing and (packing.plane_height * stride, packing.plane_width * stride)
    return whole == (header.source.height, header.source.width) and header.packed_as.slot_bits > 8


KINDS = {
    "codebook": Kind(
        stem="indices",
        packed=False,
        packing_rule="null, since each pixel stands for a ciphertext of its own",
        packing_fits=lambda header: header.packing is None,
        reveals="equal pixels have equal ciphertexts under one shared obfuscator: without any key the pixel values can be put in order "
        "again from what stands side by side, and with the public key one division reads each difference of pixels exactly",
    ),
    "dense": Kind("ciphertexts", True, "one plane of whole images in 8-bit slots", _is_dense, _HIDDEN),
    "slots": Kind("ciphertexts", True, "stride^2 planes of height / stride by width / stride in 9- to 32-bit slots", _is_slots, _HIDDEN),
    "sums": Kind("ciphertexts", True, "planes of height / stride by width / stride in 9- to 32-bit slots", _is_sums, _HIDDEN, pixels=False),
}


@dataclass(frozen=True)
class Header:
    """Hold everything that header.json says. Meaning of the fields: docs/format.md.

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
            raise ArtifactError(f"kind must be one of {', '.join(KINDS)}, got {quote(self.kind)}")
        kind, key_bits = KINDS[self.kind], self.key.key_bits
        if type(self.confidential) is not bool:
            raise ArtifactError(f"confidential must be true or false, got {quote(self.confidential)}")
        if self.confidential and not kind.packed:
            raise ArtifactError(f"confidential must be false in kind {self.kind!r}, since {kind.reveals}; got true")
        check_text("reason", self.reason, r"[^\x00-\x1f\x7f-\x9f]{1,1000}", "one line of 1 to 1,000 characters")
        check_int("ciphertext_bytes", self.ciphertext_bytes, 1, 2**16)
        if self.ciphertext_bytes != (expected := ciphertext_bytes(key_bits)):
            raise ArtifactError(f"ciphertext_bytes must be {expected} at {key_bits} bits, got {self.ciphertext_bytes}")
        if not kind.packing_fits(self):
            raise ArtifactError(f"packing must be {kind.packing_rule}, in kind {self.kind!r}, got {self.packing}")
        if self.packing and self.packing.slots != (slots := slots_of(key_bits, self.packing.slot_bits)):
            raise ArtifactError(
                f"packing.slots must be {slots} for {self.packing.slot_bits}-bit slots at {key_bits} bits, got {self.packing.slots}"
            )
        self._check_shards()
        if len(self.canary) != (expected := canary_ciphertexts(key_bits)):
            raise ArtifactError(f"canary must have {expected} ciphertexts at {key_bits} bits, got {len(self.canary)}")
        for text in self.canary:
            digits = 2 * self.ciphertext_bytes
            check_text("canary", text, f"[0-9a-f]{{{digits}}}", f"{digits} lower-case hexadecimal digits a ciphertext")

    @classmethod
    def of_shards(cls, shards: Sequence[Shard], **fields: Any) -> "Header":
        """Build the header of written shards; the counts follow from them and from `fields`, all the other fields."""
        packed = KINDS[fields["kind"]].packed
        count = sum(shard.shape[0] for shard in shards) if packed else NUM_SYMBOLS
        size = ciphertext_bytes(fields["key"].key_bits)
        return cls(**fields, num_ciphertexts=count, ciphertext_bytes=size, shards=tuple(shards))

    @property
    def packed_as(self) -> Packing:
        """The packing, of a kind that has one."""
        if self.packing is None:
            raise ArtifactError(f"kind {self.kind!r} has no packing")
        return self.packing

    @property
    def stride(self) -> int:
        """Side in px of the patches that the planes of pixels come from; 1 without a packing."""
        return max(self.source.height // self.packing.plane_height, 1) if self.packing else 1

    @property
    def data_shards(self) -> tuple[Shard, ...]:
        """The shards that hold images: all but the codebook."""
        return self.shards if KINDS[self.kind].packed else self.shards[1:]

    @property
    def total_bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    def shard_shape(self, num_images: int) -> tuple[int, ...]:
        """Give the shape of the array of a data shard of `num_images` images."""
        if self.packing:
            return (self.packing.rows(num_images), self.ciphertext_bytes)
        return (num_images, self.source.height, self.source.width)

    def _check_shards(self) -> None:
        """Check that the shards are those which kind, source and packing imply, in order, without gap or overlap."""
        found = [(shard.file, shard.shape, shard.first_image, shard.num_images) for shard in self.shards]
        expected: list[tuple[str, tuple[int, ...], int, int]]
        expected = [] if KINDS[self.kind].packed else [("codebook.npy", (NUM_SYMBOLS, self.ciphertext_bytes), 0, 0)]
        first = 0
        for index, shard in enumerate(self.shards[len(expected) :]):
            check_int(f"shard {shard.file}: num_images", shard.num_images, 1, self.source.num_images)
            expected.append((shard_name(self.kind, index), self.shard_shape(shard.num_images), first, shard.num_images))
            first += shard.num_images
        for want, got in zip(expected, found, strict=False):
            if want != got:
                raise ArtifactError(f"shard (file, shape, first_image, num_images) must be {want}, got {got}")
        if len(found) != len(expected) or first != self.source.num_images:
            raise ArtifactError(f"shards must hold source.num_images = {self.source.num_images} images, got {first}")
        group = self.packing.images_per_group if self.packing else 1
        for shard in self.data_shards[:-1]:
            if shard.num_images % group:
                raise ArtifactError(f"shard {shard.file}: num_images must be whole groups of {group}, got {shard.num_images}")
        count = sum(shape[0] for _, shape, _, _ in expected) if self.packing else NUM_SYMBOLS
        check_int("num_ciphertexts (by the shapes of the shards)", self.num_ciphertexts, count, count)


def ciphertext_bytes(key_bits: int) -> int:
    """Size of a ciphertext: a number below n^2, big-endian, in whole bytes."""
    return (2 * key_bits + 7) // 8


def slots_of(key_bits: int, slot_bits: int) -> int:
    """Count the slots of a plaintext; 8 bits of it stay unused (ppdl.crypto.arithmetic.packing says why)."""
    return (key_bits - 8) // slot_bits


def canary_ciphertexts(key_bits: int) -> int:
    """Count the ciphertexts of the canary."""
    return -(-CANARY_BYTES // slots_of(key_bits, 8))


def shard_name(kind: str, index: int) -> str:
    """Name the data shard `index`."""
    return f"{KINDS[kind].stem}-{index:05d}.npy"
