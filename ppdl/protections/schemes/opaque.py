"""The negative control: every ciphertext has an obfuscator of its own, so that a network has nothing to learn from.

A network that does better than chance on these has found a leak in the encryption, in the artifact or in the experiment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ppdl.arrays import MappedRows, Rows
from ppdl.crypto.arithmetic.obfuscators import KINDS
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.encryption.ciphertexts import write_ciphertext_artifact
from ppdl.errors import ConfigError
from ppdl.protections.base import Protection
from ppdl.protections.view import View

if TYPE_CHECKING:
    from ppdl.protections.context import Context

_HIDDEN = "each ciphertext has an obfuscator of its own: nothing about the pixels shows to who has no private key, if decisional composite "
REASONS = {
    "djn": _HIDDEN + "residuosity with half-length exponents is hard (Damgard, Jurik and Nielsen 2010)",
    "standard": _HIDDEN + "residuosity is hard (Paillier 1999)",
}


def check_obfuscator(obfuscator: str) -> None:
    """Raise ConfigError unless `obfuscator` names a way to draw obfuscators."""
    if obfuscator not in KINDS:
        raise ConfigError(f"obfuscator must be one of {', '.join(KINDS)}, got {obfuscator!r}")


def write_randomised(protection: Protection, obfuscator: str, images: Rows, out_dir: Path, context: Context, **layout: Any) -> None:
    """Write an artifact in which each ciphertext has an obfuscator of its own. Args: layout: `kind` and what it needs."""
    write_ciphertext_artifact(
        out_dir,
        images=images,
        public_key=context.public_key,
        obfuscator=obfuscator,
        protection=protection.record(context.input_px),
        confidential=protection.confidential,
        reason=REASONS[obfuscator],
        partial_dir=context.partial_dir,
        executor=context.executor,
        progress=context.progress,
        **layout,
    )


@dataclass(frozen=True)
class Opaque(Protection):
    """Encrypt whole pixels densely packed, each ciphertext under a fresh obfuscator, each image in ciphertexts of its own.

    The view `bytes` shows a network the raw ciphertexts of an image, see `bytes_side`.

    Args:
        obfuscator: `djn` or `standard`.
    """

    obfuscator: str

    name: ClassVar[str] = "opaque"
    views: ClassVar[tuple[str, ...]] = ("bytes",)
    confidential: ClassVar[bool] = True
    learnable: ClassVar[bool] = False
    reason: ClassVar[str] = REASONS["djn"]

    def __post_init__(self) -> None:
        check_obfuscator(self.obfuscator)

    def encrypt(self, images: Rows, out_dir: Path, context: Context) -> None:
        """Write a dense artifact. Cost: one encryption for each 383 pixels of an image (3072 bits; 255 at 2048)."""
        write_randomised(self, self.obfuscator, images, out_dir, context, kind="dense", images_per_group=1)

    def read(self, folder: Path, view_name: str, train_rows: np.ndarray) -> View:
        """Read the raw ciphertext bytes of each image as a gray image; see `Protection.view`.

        The array is (num_images, side, side) uint8 with side = `bytes_side`; bytes are scaled from 0..255 to [-1, 1].
        """
        rows = open_artifact(folder).ciphertexts_by_image  # (num_images, ciphertexts of an image, ciphertext_bytes)
        side = bytes_side(rows.shape[1] * rows.shape[2])
        array = MappedRows(rows, lambda block: as_squares(block, side), (side, side), np.uint8)
        return View(name=view_name, array=array, table=None, trainable=False, scale=1 / 127.5, offset=-1.0)


def bytes_side(num_bytes: int) -> int:
    """Return the side in px of the smallest square that holds `num_bytes`, one a pixel.

    An image of 64 px is 11 ciphertexts of 768 bytes at 3072 bits: 8,448 bytes, 92 x 92 px with 16 zeros at the end. Rows of the
    square are consecutive bytes, and the padding is the same for every image, so it tells nothing.
    """
    return math.isqrt(num_bytes - 1) + 1


def as_squares(ciphertexts: np.ndarray, side: int) -> np.ndarray:
    """Lay out (k, rows, ciphertext_bytes) uint8 as (k, side, side), zeros at the end."""
    squares = np.zeros((len(ciphertexts), side * side), np.uint8)
    content = ciphertexts.reshape(len(ciphertexts), -1)
    squares[:, : content.shape[1]] = content
    return squares.reshape(-1, side, side)
