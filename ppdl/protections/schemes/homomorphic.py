"""The honest use: real IND-CPA ciphertexts that a compute side filters, and a low-dimensional view that the key holder reveals.

Three parties, three stages. Sources encrypt with the public key (`Homomorphic.encrypt`). The compute side evaluates public integer
filters on the ciphertexts (ppdl.protections.steps.stem). The key holder checks that this is what was computed, decrypts the outputs alone
and adds noise (ppdl.protections.steps.reveal). The trainer sees what the key holder wrote (`Homomorphic.view`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ppdl.arrays import MappedRows, Rows
from ppdl.crypto.arithmetic.linear import dct_filters
from ppdl.crypto.arithmetic.packing import smallest_slot_bits
from ppdl.errors import ConfigError
from ppdl.protections.base import Protection
from ppdl.protections.contents import Contents
from ppdl.protections.schemes.opaque import REASONS, check_obfuscator, write_randomised
from ppdl.protections.steps.filters import LARGEST_PIXEL, STRIDES, check_weight_bits
from ppdl.protections.steps.revealed import HEADER_FILE, read_header, read_revealed, view_path
from ppdl.protections.view import View

if TYPE_CHECKING:
    from ppdl.protections.context import Context


@dataclass(frozen=True)
class Homomorphic(Protection):
    """Encrypt pixels into signed slots, packed by their place inside stride * stride patches.

    Views:
        filtered: what the key holder revealed, one value a patch and filter. Two filters become three channels by showing the first
            one again, for a network has one or three.

    Args:
        stride: side in px of a patch, 2, 4 or 8. Images are encrypted at input_px * stride, so that a filter gives input_px.
        weight_bits: slots have room for three DCT-II filters with weights of so many bits, and for any filters whose absolute
            weights have no larger sum; the fewest bits that do.
        obfuscator: `djn` or `standard`.

    Raises:
        ConfigError: a value breaks its rule.
    """

    stride: int
    weight_bits: int
    obfuscator: str

    name: ClassVar[str] = "homomorphic"
    views: ClassVar[tuple[str, ...]] = ("filtered",)
    confidential: ClassVar[bool] = True
    reason: ClassVar[str] = REASONS["djn"]

    def __post_init__(self) -> None:
        if self.stride not in STRIDES:
            raise ConfigError(f"stride must be one of {', '.join(map(str, STRIDES))}, got {self.stride!r}")
        check_weight_bits(self.weight_bits)
        check_obfuscator(self.obfuscator)

    @property
    def slot_bits(self) -> int:
        """Width of a slot: the least that no sum of the filters can overflow."""
        return smallest_slot_bits(dct_filters(self.stride, 3, self.weight_bits), LARGEST_PIXEL)

    def image_px(self, input_px: int) -> int:
        """Return the side of the encrypted images: a patch for each pixel of the network's input."""
        return input_px * self.stride

    def encrypt(self, images: Rows, out_dir: Path, context: Context) -> None:
        """Write an artifact of slots. Cost: one encryption for each (key_bits - 8) // slot_bits pixels: 278 at stride 2 and 3072 bits."""
        write_randomised(self, self.obfuscator, images, out_dir, context, kind="slots", stride=self.stride, slot_bits=self.slot_bits)

    def contents(self, folder: Path) -> Contents:
        """Describe what the key holder revealed. It is in the clear, though the ciphertexts are not: not confidential."""
        header = read_header(folder)
        facts = {
            "num_ciphertexts": header.num_ciphertexts,
            "key_bits": header.key_bits,
            "artifact_bytes": header.source_bytes,
            "expansion_factor": header.source_bytes / header.source_pixels,
            "stem_bytes": header.sums_bytes,
            "view_bytes": view_path(folder).stat().st_size,
            "checked_fraction": header.num_checked / header.num_columns,
        }
        return Contents(
            protection=header.protection,
            params=header.params,
            num_images=header.shape[0],
            confidential=False,
            key_fingerprint=header.key_fingerprint,
            header_path=folder / HEADER_FILE,
            facts=facts,
        )

    def read(self, folder: Path, view_name: str, train_rows: np.ndarray) -> View:
        """Read what the key holder revealed (`data/revealed/NAME`) as network input; see `Protection.view`.

        The array is (num_images, input_px, input_px, 1 or 3) int16, scaled to [-1, 1].
        """
        revealed = read_revealed(folder)
        header = revealed.header
        array: Rows = revealed.array
        if array.shape[3] == 2:
            array = MappedRows(array, lambda block: block[..., [0, 1, 0]], (*array.shape[1:3], 3), array.dtype)
        return View(name=view_name, array=array, table=None, trainable=False, scale=header.scale, offset=header.offset)
