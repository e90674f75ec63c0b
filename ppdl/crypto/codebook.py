"""Write kind `codebook`: the same pixel value becomes the same Paillier ciphertext everywhere. Not confidential (docs/format.md)."""

import hashlib
import mmap
import secrets
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ppdl.crypto.canary import encrypt_canary
from ppdl.crypto.fields import Key, Protection, Source
from ppdl.crypto.header import NUM_SYMBOLS, Header, shard_name
from ppdl.crypto.keys import PublicKey
from ppdl.crypto.obfuscators import build_obfuscators
from ppdl.crypto.paillier import encrypt_batch_deterministic
from ppdl.crypto.partial import Partial
from ppdl.crypto.shards import ShardWriter, write_shard
from ppdl.errors import DataError

_BLOCK_BYTES = 2**22


def check_images(images: np.ndarray) -> Source:
    """Give the header's description of images.

    Raises:
        DataError: not a non-empty uint8 array (num_images, height, width).
    """
    if images.ndim != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise DataError(f"images must be a non-empty uint8 array (num_images, height, width), got {images.dtype} {images.shape}")
    return Source(*map(int, images.shape))


def release_pages(images: np.ndarray) -> None:
    """Give back the memory of what was read from a memory map; without this, resident memory grows to the size of the file."""
    if getattr(images, "mode", None) == "r" and hasattr(mmap, "MADV_DONTNEED"):
        images._mmap.madvise(mmap.MADV_DONTNEED)


def draw_codebook(public_key: PublicKey) -> tuple[np.ndarray, bytes]:
    """Encrypt 0..255 under one random obfuscator, which is then forgotten.

    Returns:
        codebook: (256, ciphertext_bytes) uint8, ascending, so that the order of rows tells nothing that the ciphertexts do not.
        table: the row that stands for each pixel value, 256 bytes; it undoes the protection, so it is never written.

    Source: Boulila et al. 2022 (arXiv 2203.07728) with Paillier's own obfuscator r^n.
    """
    rows = encrypt_batch_deterministic(public_key, range(NUM_SYMBOLS), build_obfuscators(public_key, "standard"))
    order = sorted(range(NUM_SYMBOLS), key=lambda value: rows[value].tobytes())
    table = np.empty(NUM_SYMBOLS, np.uint8)
    table[order] = np.arange(NUM_SYMBOLS)
    return rows[order], table.tobytes()


def write_codebook_artifact(
    out_dir: Path,
    *,
    images: np.ndarray,
    public_key: PublicKey,
    protection: Protection,
    reason: str,
    partial_dir: Path,
    shard_bytes: int = 2**26,
    progress: bool = True,
) -> Header:
    """Encrypt images deterministically, pixel by pixel, dictionary-encoded.

    An interrupted run starts over: the table that undoes the protection is not kept, and the work takes seconds.

    Args:
        out_dir: final folder of the artifact; new or empty.
        images: (num_images, height, width) uint8, read block by block.
        reason: why the artifact is not confidential, in the header.
        partial_dir: where the unfinished artifact lies, outside `out_dir`.
        shard_bytes: largest shard of indices, in bytes (at least one image).

    Raises:
        ArtifactError: `out_dir` or `partial_dir` is in use.
        DataError: not uint8 images.

    Cost: some 0.2 s for the codebook at 3072 bits, then about 3 ns a pixel (two SHA-256 and a table look-up); memory is constant.
    """
    source = check_images(images)
    per_shard = max(shard_bytes // (source.height * source.width), 1)
    digest = hashlib.sha256()
    total = images.size
    bar = tqdm(total=total, desc=protection.name, unit="px", unit_scale=True, disable=not progress)
    with Partial(partial_dir, out_dir) as partial, bar:
        partial.begin({"kind": "codebook", "run": secrets.token_hex(16)})  # equals no other plan, so nothing is ever taken over
        codebook, table = draw_codebook(public_key)
        shards = [write_shard(partial.artifact / "codebook.npy", codebook, 0, 0)]
        for index, first in enumerate(range(0, source.num_images, per_shard)):
            part = images[first : first + per_shard]
            with ShardWriter(partial.artifact / shard_name("codebook", index), part.shape, first, len(part)) as writer:
                _translate(part, table, writer, digest, bar)
            shards.append(writer.shard)
        header = Header(
            kind="codebook",
            confidential=False,
            reason=reason,
            protection=protection,
            key=Key(public_key.fingerprint, public_key.key_bits, "standard"),
            source=source,
            packing=None,
            num_ciphertexts=NUM_SYMBOLS,
            ciphertext_bytes=public_key.ciphertext_bytes,
            shards=tuple(shards),
            canary=encrypt_canary(public_key, digest.digest()),
        )
        partial.finish(header)
    return header


def _translate(part: np.ndarray, table: bytes, writer: ShardWriter, digest: "hashlib._Hash", bar: tqdm) -> None:
    """Write the rows of the codebook that stand for the pixels of `part`, a few MiB at a time."""
    step = max(_BLOCK_BYTES // (part.shape[1] * part.shape[2]), 1)
    for begin in range(0, len(part), step):
        pixels = part[begin : begin + step].tobytes()
        digest.update(pixels)
        writer.write(np.frombuffer(pixels.translate(table), np.uint8))
        release_pages(part)
        bar.update(len(pixels))
