"""Write kind `codebook`: the same pixel value becomes the same Paillier ciphertext everywhere. Not confidential (docs/format.md)."""

import hashlib
import math
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ppdl.arrays import Rows
from ppdl.crypto.arithmetic.numbers import check_ciphertexts, from_array
from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.paillier import encrypt_batch_deterministic
from ppdl.crypto.artifact.fields import Key, Protection, Source
from ppdl.crypto.artifact.header import NUM_SYMBOLS, Header, shard_name
from ppdl.crypto.artifact.shards import write_blocks, write_shard
from ppdl.crypto.encryption.canary import encrypt_canary
from ppdl.crypto.encryption.partial import Partial
from ppdl.crypto.keys.keypair import PublicKey, check_purpose
from ppdl.crypto.keys.purpose import ARCHIVE
from ppdl.errors import ArtifactError, DataError

_BLOCK_BYTES = 2**22


def check_images(images: Rows) -> Source:
    """Give the header's description of images.

    Raises:
        DataError: not a non-empty uint8 array (num_images, height, width).
    """
    if len(images.shape) != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise DataError(f"images must be a non-empty uint8 array (num_images, height, width), got {images.dtype} {images.shape}")
    return Source(*map(int, images.shape))


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


def solve_codebook(public_key: PublicKey, codebook: np.ndarray) -> bytes:
    """Read the row that stands for each pixel value off a codebook, with the public key alone.

    That this works is why kind `codebook` is not confidential: under one obfuscator c_i / c_j = 1 + (m_i - m_j) n (mod n^2), and the 256
    rows hold all of 0..255, so the least of them is 0.

    Args:
        codebook: (256, ciphertext_bytes) uint8.

    Returns:
        The table that `draw_codebook` returned beside the codebook, 256 bytes.

    Raises:
        ArtifactError: the rows do not share an obfuscator, or do not hold each pixel value once.
        CryptoError: a row is no ciphertext of this key.

    Source: Paillier 1999; ppdl.audit.attacks.ratio is the same as an attack.

    Cost: 256 multiplications mod n^2: some ms at 3072 bits.
    """
    n, n_squared = public_key.n, public_key.n_squared
    numbers = from_array(public_key, codebook)
    check_ciphertexts(public_key, numbers)
    inverse = pow(numbers[0], -1, n_squared)
    quotients = [number * inverse % n_squared for number in numbers]
    if any(quotient % n != 1 for quotient in quotients):
        raise ArtifactError("the rows of the codebook must share one obfuscator, found several: it is of another scheme or of another key")
    differences = [int((quotient - 1) // n) for quotient in quotients]
    signed = [d if d <= n // 2 else d - n for d in differences]
    least = min(signed)
    values = [d - least for d in signed]
    if sorted(values) != list(range(NUM_SYMBOLS)):
        raise ArtifactError(f"the codebook must hold each of 0..255 once, found values that span {max(values)}; it is of another scheme")
    table = np.empty(NUM_SYMBOLS, np.uint8)
    table[values] = np.arange(NUM_SYMBOLS)
    return table.tobytes()


def write_codebook_artifact(
    out_dir: Path,
    *,
    images: Rows,
    public_key: PublicKey,
    protection: Protection,
    reason: str,
    partial_dir: Path,
    codebook: tuple[np.ndarray, bytes] | None = None,
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
        codebook: that of another artifact under the same key and its table (`solve_codebook`), so that symbols mean the same in both;
            None: a new one.
        shard_bytes: largest shard of indices, in bytes (at least one image).

    Raises:
        ArtifactError: `out_dir` or `partial_dir` is in use.
        DataError: not uint8 images.
        KeyStoreError: a key for another purpose than archive.

    Cost: some 0.2 s for the codebook at 3072 bits, then about 3 ns a pixel (two SHA-256 and a table look-up); memory is constant.
    """
    source = check_images(images)
    check_purpose(public_key, ARCHIVE)
    per_shard = max(shard_bytes // (source.height * source.width), 1)
    digest = hashlib.sha256()
    total = math.prod(images.shape)
    bar = tqdm(total=total, desc=protection.name, unit="px", unit_scale=True, disable=not progress)
    with Partial(partial_dir, out_dir) as partial, bar:
        partial.begin({"kind": "codebook", "run": secrets.token_hex(16)})  # equals no other plan, so nothing is ever taken over
        rows, table = draw_codebook(public_key) if codebook is None else codebook
        shards = [write_shard(partial.artifact / "codebook.npy", rows, 0, 0)]
        for index, first in enumerate(range(0, source.num_images, per_shard)):
            part = images[first : first + per_shard]
            blocks = _translated(part, table, digest, bar)
            shards.append(write_blocks(partial.artifact / shard_name("codebook", index), part.shape, blocks, first, len(part)))
        header = Header.of_shards(
            shards,
            kind="codebook",
            confidential=False,
            reason=reason,
            protection=protection,
            key=Key(public_key.fingerprint, public_key.key_bits, "standard"),
            source=source,
            packing=None,
            canary=encrypt_canary(public_key, digest.digest()),
        )
        partial.finish(header)
    return header


def _translated(part: np.ndarray, table: bytes, digest: "hashlib._Hash", bar: tqdm) -> Iterator[np.ndarray]:
    """Yield the rows of the codebook that stand for the pixels of `part`, a few MiB at a time."""
    step = max(_BLOCK_BYTES // (part.shape[1] * part.shape[2]), 1)
    for begin in range(0, len(part), step):
        pixels = part[begin : begin + step].tobytes()
        digest.update(pixels)
        yield np.frombuffer(pixels.translate(table), np.uint8)
        bar.update(len(pixels))
