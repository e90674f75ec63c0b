"""Write kinds `dense` and `slots`: images as packed Paillier ciphertexts, each with an obfuscator of its own, in parallel and resumably."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from gmpy2 import mpz
from tqdm import tqdm

from ppdl.arrays import Rows
from ppdl.crypto.arithmetic.obfuscators import Obfuscators, base_of, build_obfuscators
from ppdl.crypto.arithmetic.packing import DensePacking, SlotPacking
from ppdl.crypto.arithmetic.paillier import encrypt_batch
from ppdl.crypto.artifact.fields import Key, Protection, Shard
from ppdl.crypto.artifact.header import Header, shard_name
from ppdl.crypto.artifact.layout import to_planes
from ppdl.crypto.artifact.shards import write_shard
from ppdl.crypto.encryption.canary import encrypt_canary
from ppdl.crypto.encryption.codebook import check_images
from ppdl.crypto.encryption.partial import Partial
from ppdl.crypto.encryption.plan import Plan, plan_packing
from ppdl.crypto.keys.keypair import PublicKey, check_purpose
from ppdl.crypto.keys.purpose import ARCHIVE
from ppdl.crypto.workers.parallel import Executor

_HASH_BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class Encryption:
    """Hold what every shard of an artifact is encrypted with: public values only, for workers get it pickled."""

    kind: str
    plan: Plan
    public_key: PublicKey
    obfuscator: str
    table_bytes: int
    num_ciphertexts: int

    def plaintexts(self, images: np.ndarray) -> list[mpz]:
        """Pack images (num_images, height, width) that begin a group, one plaintext for each ciphertext."""
        slots = self.plan.packing.to_slots(to_planes(images, self.plan.stride)).reshape(-1)
        if self.kind == "dense":
            return DensePacking(self.plan.key_bits).pack(slots)
        return SlotPacking(self.plan.key_bits, self.plan.packing.slot_bits).pack(slots, self.public_key)

    def encrypt(self, images: np.ndarray) -> np.ndarray:
        """Encrypt images that begin a group: (number of ciphertexts, ciphertext_bytes) uint8."""
        source = _obfuscators(self.public_key, self.obfuscator, self.table_bytes, self.num_ciphertexts)
        return encrypt_batch(self.public_key, self.plaintexts(images), source)


@dataclass(frozen=True)
class ShardTask:
    """Hold what a worker needs to write one shard."""

    encryption: Encryption
    path: Path
    first_image: int
    images: np.ndarray


@lru_cache(maxsize=1)
def _obfuscators(public_key: PublicKey, kind: str, table_bytes: int, num_ciphertexts: int) -> Obfuscators:
    """Build the tables once a worker. They hold powers of the public h_n only; what is drawn from them is never kept."""
    return build_obfuscators(public_key, kind, table_bytes=table_bytes, num_ciphertexts=num_ciphertexts)


def drop_tables() -> None:
    """Free the tables of this process; workers are gone, but with one worker the work was done here."""
    _obfuscators.cache_clear()


def encrypt_shard(task: ShardTask) -> Shard:
    """Encrypt and write one shard (in a worker)."""
    return write_shard(task.path, task.encryption.encrypt(task.images), task.first_image, len(task.images))


def hash_images(images: Rows) -> bytes:
    """Compute the SHA-256 of all pixels in C order, in constant memory."""
    digest = hashlib.sha256()
    step = max(_HASH_BLOCK_BYTES // (images.shape[1] * images.shape[2]), 1)
    for first in range(0, len(images), step):
        digest.update(np.ascontiguousarray(images[first : first + step]).data)
    return digest.digest()


def write_ciphertext_artifact(
    out_dir: Path,
    *,
    kind: str,
    images: Rows,
    public_key: PublicKey,
    obfuscator: str,
    protection: Protection,
    confidential: bool,
    reason: str,
    stride: int = 1,
    slot_bits: int = 8,
    images_per_group: int | None = None,
    partial_dir: Path,
    executor: Executor,
    progress: bool = True,
) -> Header:
    """Encrypt images into packed ciphertexts with the public key.

    A run that was interrupted goes on when it is called with equal arguments: shards that are finished stay, the others are encrypted with
    fresh obfuscators. Another key, protection, packing or other images start it over, with a warning in the log.

    Args:
        out_dir: final folder of the artifact; new or empty.
        kind: `dense` (8-bit slots, to store and decrypt) or `slots` (signed slots, planes by phase, to compute on).
        images: (num_images, height, width) uint8, read block by block.
        obfuscator: `djn` or `standard`.
        confidential, reason: what the header claims, and why.
        stride: side in px of the patches by whose phases planes are made; `slots` only.
        slot_bits: width of a slot, 9 to 32; `slots` only.
        images_per_group: images that share plaintexts. None: all of a shard, the fewest ciphertexts. 1: each image has its own.
        partial_dir: where the unfinished artifact lies, outside `out_dir`.
        executor: workers, size of a shard, memory.

    Raises:
        ArtifactError: `out_dir` or `partial_dir` is in use.
        ConfigError: parameters that do not fit the images or the key.
        CryptoError: obfuscator `djn` for a key that was not made for it.
        DataError: not uint8 images.
        KeyStoreError: a key for another purpose than archive.

    Cost: `ppdl estimate` measures it; with `djn` about 0.5 ms (2048 bits) or 1.3 ms (3072) a ciphertext and core.
    """
    source = check_images(images)
    check_purpose(public_key, ARCHIVE)
    key = Key(public_key.fingerprint, public_key.key_bits, obfuscator)
    if obfuscator == "djn":
        base_of(public_key)  # refuses a key without h here rather than in a worker
    plan = plan_packing(
        source,
        kind=kind,
        key_bits=key.key_bits,
        stride=stride,
        slot_bits=slot_bits,
        images_per_group=images_per_group,
        executor=executor,
    )
    digest = hash_images(images)
    contents = {"kind": kind, "key": asdict(key), "protection": asdict(protection), "images": digest.hex(), "packing": asdict(plan)}
    with Partial(partial_dir, out_dir) as partial:
        finished = partial.begin(contents)
        missing = [i for i in range(plan.num_shards) if shard_name(kind, i) not in finished]
        per_worker = -(-len(missing) // executor.workers) * plan.packing.rows(plan.images_per_shard)
        encryption = Encryption(kind, plan, public_key, obfuscator, executor.table_bytes, per_worker)
        results = executor.map_unordered(encrypt_shard, _tasks(encryption, partial.work, images, missing))
        pixels = source.height * source.width
        done = pixels * sum(shard.num_images for shard in finished.values())
        bar = tqdm(total=pixels * source.num_images, initial=done, desc=protection.name, unit="px", unit_scale=True, disable=not progress)
        try:
            with bar:
                shards = partial.collect(finished, results, lambda num_images: bar.update(num_images * pixels))
        finally:
            drop_tables()
        header = Header.of_shards(
            shards,
            kind=kind,
            confidential=confidential,
            reason=reason,
            protection=protection,
            key=key,
            source=source,
            packing=plan.packing,
            canary=encrypt_canary(public_key, digest),
        )
        partial.finish(header)
    return header


def _tasks(encryption: Encryption, folder: Path, images: Rows, shards: Sequence[int]) -> Iterator[ShardTask]:
    """Read the images of each missing shard when a worker is about to need them."""
    size = encryption.plan.images_per_shard
    for index in shards:
        first = index * size
        block = np.array(images[first : first + size])  # a copy, since a memory map would be pickled whole
        yield ShardTask(encryption, folder / shard_name(encryption.kind, index), first, block)
