"""What lies in the folders of the pipeline, as an attacker sees it: from an artifact, and from a revealed view, to a `Target`."""

from __future__ import annotations

import math
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.arrays import MappedRows
from ppdl.audit.examination.base import Symbols, Target
from ppdl.audit.examination.release_view import release_view
from ppdl.crypto.artifact.reading import Artifact, open_artifact
from ppdl.protections.schemes.opaque import as_squares, bytes_side
from ppdl.protections.steps.filters import Filters
from ppdl.protections.steps.noise import NoiseSecret
from ppdl.protections.steps.revealed import Revealed, read_revealed

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import PublicKey
    from ppdl.protections.base import Protection
    from ppdl.protections.context import Context

_CODEBOOK = "codebook"


def target_of(artifact_dir: Path, revealed_dir: Path | None, *, public_key: PublicKey) -> Target:
    """Return what a thief of an artifact, and of what was revealed of it, holds.

    Raises:
        ArtifactError: a folder holds no such thing, is damaged, or is of another key.
    """
    artifact = open_artifact(artifact_dir)
    artifact.check_key(public_key)
    source = artifact.header.source
    deterministic = artifact.header.kind == _CODEBOOK
    return Target(
        name=artifact.header.protection.name,
        num_images=source.num_images,
        height=source.height,
        width=source.width,
        symbols=Symbols(artifact.indices, len(artifact.codebook), artifact.codebook) if deterministic else None,
        ciphertexts=None if deterministic else ciphertexts_of_images(artifact),
        public_key=public_key,
        view=None if revealed_dir is None else read_revealed(revealed_dir),
        picture=picture_of(artifact),
    )


def ciphertexts_of_images(artifact: Artifact) -> MappedRows:
    """Return ciphertexts of each image, (num_images, num_ciphertexts, ciphertext_bytes) uint8.

    Where images share ciphertexts, those that hold pixels of one image alone, as many as every image has; so no ciphertext counts twice.
    Images that are too small to fill any have one that may also hold pixels of their neighbours.
    """
    packing, shards = artifact.header.packed_as, artifact.header.data_shards
    first_row = np.cumsum([0] + [shard.shape[0] for shard in shards])
    first_image = np.array([shard.first_image for shard in shards])
    group, pixels, slots = packing.images_per_group, packing.plane_height * packing.plane_width, packing.slots
    own = packing.stream_rows(1) if group == 1 else max((pixels - slots + 1) // slots, 1)
    block = np.arange(packing.planes * own)  # consecutive rows, see ppdl.crypto.artifact.layout
    everything = artifact.ciphertexts

    def gather(images: np.ndarray) -> np.ndarray:
        shard = np.searchsorted(first_image, images, "right") - 1
        number, place = np.divmod(images - first_image[shard], group)
        begin = np.minimum(-(-place * pixels // slots), ((place + 1) * pixels - 1) // slots)  # the last for images that fill none
        row = first_row[shard] + packing.planes * (number * packing.stream_rows(group) + begin)
        return everything[(row[:, None] + block).ravel()].reshape(len(images), len(block), -1)

    numbers = np.arange(artifact.header.source.num_images)
    return MappedRows(numbers, gather, (len(block), artifact.header.ciphertext_bytes), np.uint8)


def picture_of(artifact: Artifact) -> MappedRows:
    """Show ciphertexts as a thief sees them, (num_images, height, width) uint8.

    The last byte of each pixel's ciphertext; where a ciphertext holds many pixels, all bytes of an image in a square (zeros at its end).
    """
    if artifact.header.kind == _CODEBOOK:
        shown, indices = artifact.codebook[:, -1], artifact.indices
        return MappedRows(indices, lambda block: shown[block], indices.shape[1:], np.uint8)
    rows = ciphertexts_of_images(artifact)
    side = bytes_side(math.prod(rows.shape[1:]))
    return MappedRows(rows, lambda block: as_squares(block, side), (side, side), np.uint8)


def encryption_of(protection: Protection, context: Context) -> Callable[[np.ndarray], Target]:
    """Return what an attacker does who encrypts images of his own choice with the public key.

    Args:
        context: its `partial_dir` is a folder for the artifacts, each of which is deleted once it was read.
    """

    def encrypt(images: np.ndarray) -> Target:
        with tempfile.TemporaryDirectory(prefix="ppdl-audit-", dir=context.partial_dir) as folder:
            artifact_dir = Path(folder) / "artifact"
            protection.encrypt(images, artifact_dir, replace(context, partial_dir=Path(folder) / "partial"))
            return in_memory(target_of(artifact_dir, None, public_key=context.public_key))

    return encrypt


def reveal_of(view: Revealed | None) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return what the key holder does with images that a source chose; None where nothing was revealed.

    Noise comes from a secret that the attacker does not have. Computed from the pixels, which gives the same integers as from their
    ciphertexts.
    """
    if view is None:
        return None
    weights, secret = view.header.filters, NoiseSecret(secrets.token_bytes(32))
    stride, noise = math.isqrt(len(weights[0])), view.header.params["reveal"]["noise"]
    filters = Filters(filters=weights, channels=len(weights), weight_bits=4)  # weights are given, so weight_bits is not used

    def reveal(images: np.ndarray) -> np.ndarray:
        return release_view(images, stride=stride, filters=filters, secret=secret, **_levels(view), noise=noise)

    return reveal


def release_of(images: Any, view: Revealed | None) -> Callable[..., np.ndarray] | None:
    """Return what a key holder does who reveals more than one view of the same images; None where nothing was revealed.

    Every release draws its noise anew: `release(rows, stride, filters, noise)`, see `release_view`. Clipping is that of `view`.

    Args:
        images: that were protected, (num_images, height, width) uint8.
    """
    if view is None:
        return None

    def release(rows: np.ndarray, stride: int, filters: Filters, noise: float) -> np.ndarray:
        secret = NoiseSecret(secrets.token_bytes(32))
        return release_view(np.asarray(images[rows]), stride=stride, filters=filters, secret=secret, **_levels(view), noise=noise)

    return release


def _levels(view: Revealed) -> dict[str, float]:
    return {key: view.header.params["reveal"][key] for key in ("clip", "clip_detail")}


def in_memory(target: Target) -> Target:
    """Return a target whose arrays no longer need its folder."""
    symbols = target.symbols and replace(target.symbols, array=np.array(target.symbols.array), codebook=np.array(target.symbols.codebook))
    ciphertexts = None if target.ciphertexts is None else np.array(target.ciphertexts)
    return replace(target, symbols=symbols, ciphertexts=ciphertexts, picture=np.array(target.picture))
