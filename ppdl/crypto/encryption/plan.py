"""Plan an artifact of packed ciphertexts before anything is encrypted: packing, shards, number of ciphertexts, bytes."""

from dataclasses import dataclass

from ppdl.crypto.artifact.fields import NPY_HEADER_BYTES, Source
from ppdl.crypto.artifact.header import ciphertext_bytes, slots_of
from ppdl.crypto.artifact.layout import Packing
from ppdl.crypto.workers.parallel import Executor
from ppdl.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """Say how images are cut into shards and packed. `stride` is the side in px of the patches that planes are made by."""

    source: Source
    key_bits: int
    stride: int
    packing: Packing
    images_per_shard: int

    @property
    def num_shards(self) -> int:
        """Shards, the last of which may hold fewer images."""
        return -(-self.source.num_images // self.images_per_shard)

    @property
    def num_ciphertexts(self) -> int:
        """Ciphertexts of all shards."""
        full, rest = divmod(self.source.num_images, self.images_per_shard)
        return full * self.packing.rows(self.images_per_shard) + self.packing.rows(rest)

    @property
    def total_bytes(self) -> int:
        """Bytes of all shards."""
        return self.num_ciphertexts * ciphertext_bytes(self.key_bits) + self.num_shards * NPY_HEADER_BYTES


def plan_packing(
    source: Source, *, kind: str, key_bits: int, stride: int, slot_bits: int, images_per_group: int | None, executor: Executor
) -> Plan:
    """Choose the packing and the images of a shard: as many as fit executor.shard_mib, fewer where executor.min_shards asks for it.

    Raises:
        ConfigError: values that do not fit together.
    """
    if kind not in ("dense", "slots"):
        raise ConfigError(f"kind must be dense or slots, got {kind!r}")
    if kind == "dense" and (stride, slot_bits) != (1, 8):
        raise ConfigError(f"kind dense must have stride 1 and slot_bits 8, got {stride} and {slot_bits}")
    if kind == "slots" and not 9 <= slot_bits <= 32:
        raise ConfigError(f"slot_bits must be 9 (the least signed slot that holds a pixel) to 32, got {slot_bits}")
    if stride < 1 or source.height % stride or source.width % stride:
        raise ConfigError(f"stride must divide the images' {source.height} x {source.width} px, got {stride}")
    if images_per_group is not None and images_per_group < 1:
        raise ConfigError(f"images_per_group must be null (all images of a shard) or >= 1, got {images_per_group}")
    slots = slots_of(key_bits, slot_bits)
    if slots < 1:
        raise ConfigError(f"slot_bits must be at most {key_bits - 8} at {key_bits} bits, got {slot_bits}")
    image_bytes = source.height * source.width / slots * ciphertext_bytes(key_bits)
    per_shard = max(min(int(executor.shard_mib * 2**20 / image_bytes), -(-source.num_images // executor.min_shards)), 1)
    group = images_per_group or per_shard
    packing = Packing(slot_bits, slots, stride**2, source.height // stride, source.width // stride, group)
    return Plan(source, key_bits, stride, packing, max(per_shard // group, 1) * group)
