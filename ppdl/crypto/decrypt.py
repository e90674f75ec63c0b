"""Decrypt PPDL/1 artifacts back to images, bit by bit what was encrypted, shard after shard."""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from ppdl.crypto.arithmetic.packing import DensePacking, SlotPacking
from ppdl.crypto.arithmetic.paillier import decrypt_batch
from ppdl.crypto.artifact.fields import Shard
from ppdl.crypto.artifact.header import KINDS, NUM_SYMBOLS
from ppdl.crypto.artifact.layout import from_planes
from ppdl.crypto.artifact.reading import Artifact
from ppdl.crypto.encryption.canary import open_canary
from ppdl.crypto.keys.keypair import PrivateKey
from ppdl.errors import ArtifactError, CryptoError

_CHUNK_CIPHERTEXTS = 1024  # between two reports of progress: some seconds
_BLOCK_BYTES = 2**24


def decrypt_images(
    artifact: Artifact, private_key: PrivateKey, *, num_threads: int = 1, on_ciphertexts: Callable[[int], None] = lambda count: None
) -> Iterator[tuple[int, np.ndarray]]:
    """Decrypt an artifact of pixels block by block, in the order of the images.

    Fingerprint and canary are checked before anything is decrypted, the SHA-256 of all pixels after the last block: only when
    the iterator ends without an error were these the images that were encrypted.

    Args:
        num_threads: threads that decrypt; the private key never leaves this process.
        on_ciphertexts: told how many ciphertexts have been decrypted since the last call; header.num_ciphertexts in all.

    Yields:
        first_image, and images (num_images, height, width) uint8.

    Raises:
        ArtifactError: another key, a damaged shard, ciphertexts that decrypt to no pixels, or not to the encrypted ones.

    Cost: 0.3 ms a ciphertext and core at 2048 bits, 1 ms at 3072; with gmpy2 2.6 and 8. Memory of one shard.
    """
    if not KINDS[artifact.header.kind].pixels:
        raise ArtifactError(f"{artifact.path}: kind {artifact.header.kind!r} holds no images, but sums of pixels: stage reveal decrypts it")
    try:
        expected = open_canary(private_key, artifact.header)
    except ArtifactError as error:
        raise ArtifactError(f"{artifact.path}: {error}") from None
    blocks = _decrypt_packed if KINDS[artifact.header.kind].packed else _decrypt_codebook
    digest = hashlib.sha256()
    for first, images in blocks(artifact, private_key, num_threads, on_ciphertexts):
        digest.update(np.ascontiguousarray(images).data)
        yield first, images
    if not hmac.compare_digest(digest.digest(), expected):
        raise ArtifactError(
            f"{artifact.path}: every ciphertext decrypts, but to other images than were encrypted: the SHA-256 of all pixels in the canary "
            "differs; ciphertexts were exchanged or changed, so do not use these images"
        )


def _decrypt_codebook(
    artifact: Artifact, private_key: PrivateKey, num_threads: int, on_ciphertexts: Callable[[int], None]
) -> Iterator[tuple[int, np.ndarray]]:
    with _located(artifact, "codebook.npy"):
        values = decrypt_batch(private_key, artifact.codebook, num_threads=num_threads)
    if sorted(values) != list(range(NUM_SYMBOLS)):
        raise ArtifactError(f"{artifact.path / 'codebook.npy'}: rows must decrypt to each of 0..255 once; this is another codebook")
    on_ciphertexts(NUM_SYMBOLS)
    table = bytes(map(int, values))
    source = artifact.header.source
    step = max(_BLOCK_BYTES // (source.height * source.width), 1)
    for first in range(0, source.num_images, step):
        symbols = artifact.indices[first : first + step]
        yield first, np.frombuffer(symbols.tobytes().translate(table), np.uint8).reshape(symbols.shape)


def _decrypt_packed(
    artifact: Artifact, private_key: PrivateKey, num_threads: int, on_ciphertexts: Callable[[int], None]
) -> Iterator[tuple[int, np.ndarray]]:
    for shard in artifact.header.data_shards:
        planes = decrypt_planes(artifact, private_key, shard, num_threads=num_threads, on_ciphertexts=on_ciphertexts)
        if planes.min() < 0 or planes.max() > 255:
            raise ArtifactError(
                f"{artifact.path / shard.file}: pixels must decrypt to 0..255, found {planes.min()} to {planes.max()}: "
                "these ciphertexts were computed on, or are not what the header says"
            )
        yield shard.first_image, from_planes(planes.astype(np.uint8), artifact.header.stride)


def decrypt_planes(
    artifact: Artifact,
    private_key: PrivateKey,
    shard: Shard,
    *,
    num_threads: int = 1,
    on_ciphertexts: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Decrypt one shard of packed ciphertexts to the values of its slots.

    The caller checks the canary first (`open_canary`).

    Returns:
        (num_images, planes, plane_height, plane_width), uint8 of 8-bit slots, else int64.

    Raises:
        ArtifactError: a damaged shard, or ciphertexts that decrypt to no slots.
    """
    rows, plaintexts = artifact.shard(shard.file), []
    with _located(artifact, shard.file):
        for begin in range(0, len(rows), _CHUNK_CIPHERTEXTS):
            chunk = rows[begin : begin + _CHUNK_CIPHERTEXTS]
            plaintexts += decrypt_batch(private_key, chunk, num_threads=num_threads)
            on_ciphertexts(len(chunk))
        packing, public = artifact.header.packed_as, private_key.public
        num_values = len(rows) * packing.slots
        if packing.slot_bits == 8:
            values = DensePacking(public.key_bits).unpack(plaintexts, num_values)
        else:
            values = SlotPacking(public.key_bits, packing.slot_bits).unpack(plaintexts, num_values, public)
        return packing.from_slots(values.reshape(len(rows), packing.slots), shard.num_images)


@contextmanager
def _located(artifact: Artifact, file: str) -> Iterator[None]:
    """Turn an error about numbers into one that names the file they are in."""
    try:
        yield
    except CryptoError as error:
        raise ArtifactError(f"{artifact.path / file}: {error}") from None
