"""Write kinds `dense` and `slots`: images as packed Paillier ciphertexts, each with an obfuscator of its own, in parallel and resumably."""

import hashlib
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ppdl.crypto.canary import encrypt_canary
from ppdl.crypto.codebook import check_images
from ppdl.crypto.header import Header, Key, Protection, Shard, shard_name
from ppdl.crypto.keys import PublicKey
from ppdl.crypto.layout import to_planes
from ppdl.crypto.obfuscators import Obfuscators, base_of, build_obfuscators
from ppdl.crypto.packing import DensePacking, SlotPacking
from ppdl.crypto.paillier import encrypt_batch
from ppdl.crypto.parallel import Executor
from ppdl.crypto.partial import Partial
from ppdl.crypto.plan import Plan, plan_packing
from ppdl.crypto.shards import write_shard

_HASH_BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class EncryptionTask:
    """Hold what a worker needs to write one shard: the images and public values. Never a private key: tasks are pickled."""

    path: Path
    first_image: int
    images: np.ndarray
    kind: str
    plan: Plan
    public_key: PublicKey
    obfuscator: str
    table_bytes: int
    num_ciphertexts: int

    def plaintexts(self) -> list:
        """Pack the images into plaintexts, one for each ciphertext of the shard."""
        slots = self.plan.packing.to_slots(to_planes(self.images, self.plan.stride)).reshape(-1)
        if self.kind == "dense":
            return DensePacking(self.plan.key_bits).pack(slots)
        return SlotPacking(self.plan.key_bits, self.plan.packing.slot_bits).pack(slots, self.public_key)


@lru_cache(maxsize=1)
def _obfuscators(public_key: PublicKey, kind: str, table_bytes: int, num_ciphertexts: int) -> Obfuscators:
    """Build the tables once a worker. They hold powers of the public h_n only; what is drawn from them is never kept."""
    return build_obfuscators(public_key, kind, table_bytes=table_bytes, num_ciphertexts=num_ciphertexts)


def encrypt_shard(task: EncryptionTask) -> Shard:
    """Encrypt and write one shard (in a worker)."""
    obfuscators = _obfuscators(task.public_key, task.obfuscator, task.table_bytes, task.num_ciphertexts)
    rows = encrypt_batch(task.public_key, task.plaintexts(), obfuscators)
    return write_shard(task.path, rows, task.first_image, len(task.images))


def write_ciphertext_artifact(
    out_dir: Path,
    *,
    kind: str,
    images: np.ndarray,
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

    Cost: `ppdl estimate` measures it; with `djn` about 0.5 ms (2048 bits) or 1.3 ms (3072) a ciphertext and core.
    """
    source = check_images(images)
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
    with Partial(partial_dir, out_dir) as partial:
        finished = partial.begin(
            {"kind": kind, "key": asdict(key), "protection": asdict(protection), "images sha256": digest.hex(), "packing": asdict(plan)}
        )
        tasks = _tasks(partial.artifact, kind, plan, images, public_key, obfuscator, executor, finished)
        shards = _encrypt(partial, finished, tasks, executor, tqdm(total=images.size, desc=protection.name, disable=not progress))
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
