"""What a network is fed. Training sees nothing else: the plain images are one more view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ppdl.arrays import LazyRows, Rows
from ppdl.errors import ConfigError


@dataclass(frozen=True, eq=False)
class View:
    """Describe what the network is fed.

    Args:
        name: "pixels", "spectral", "bytes", ...
        array: Integers that int32 can hold, (num_images, height, width) or (num_images, height, width, 1 or 3). Row i belongs to
            row i of the prepared images. Usually memory-mapped; anything with `shape`, `dtype` and rows by number will do.
        table: What each symbol looks like, (num_symbols, 1 or 3) float32 in [-1, 1]; `array` then holds symbols in
            [0, num_symbols), without a channel axis. None: `array` holds values, which become value * scale + offset.
        trainable: The table is where learning starts, not where it stays.
        scale: Ignored with a table.
        offset: Ignored with a table.

    Raises:
        ConfigError: A part breaks one of these rules. That symbols stay below num_symbols is checked where they are read,
            for checking it here would read the whole array.
    """

    name: str
    array: Rows
    table: np.ndarray | None
    trainable: bool
    scale: float
    offset: float

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("a view needs a name, got ''")
        self._check_array()
        if self.table is None:
            self._check_scale()
        else:
            self._check_table(self.table)

    def reading(self, read: Callable[[slice | np.ndarray], np.ndarray]) -> View:
        """Return the view with rows that are made as they are asked for, in the place of its own; see `LazyRows`."""
        return replace(self, array=LazyRows(self.array.shape[0], self.array.shape[1:], self.array.dtype, read))

    def mirrored(self) -> View:
        """Return the view of the mirror images, left and right, made as they are read."""
        return self.reading(lambda rows: np.asarray(self.array[rows])[:, :, ::-1])

    def _check_array(self) -> None:
        shape, dtype = self.array.shape, self.array.dtype
        if dtype.kind not in "iu" or not np.can_cast(dtype, np.int32):
            raise ConfigError(f"view {self.name!r}: array must hold integers that int32 can hold, got {dtype}")
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
            rule = "array must be (num_images, height, width) or (num_images, height, width, 1 or 3)"
            raise ConfigError(f"view {self.name!r}: {rule}, got {shape}")
        if min(shape) < 1:
            raise ConfigError(f"view {self.name!r}: array must not be empty, got {shape}")

    def _check_scale(self) -> None:
        if self.trainable:
            raise ConfigError(f"view {self.name!r}: trainable needs a table to train, got table None")
        if not (np.isfinite(self.scale) and np.isfinite(self.offset) and self.scale != 0):
            rule = "scale and offset must be finite and scale not 0"
            raise ConfigError(f"view {self.name!r}: {rule}, got scale {self.scale}, offset {self.offset}")

    def _check_table(self, table: np.ndarray) -> None:
        if len(self.array.shape) != 3:
            rule = "an array of symbols must be (num_images, height, width)"
            raise ConfigError(f"view {self.name!r}: {rule}, got {self.array.shape}")
        if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] not in (1, 3) or table.dtype != np.float32:
            rule = "table must be (num_symbols, 1 or 3) float32"
            raise ConfigError(f"view {self.name!r}: {rule}, got {table.shape} {table.dtype}")
        if not (np.abs(table) <= 1).all():  # also False for NaN
            found = f"{np.min(table)} to {np.max(table)}"
            raise ConfigError(f"view {self.name!r}: table must lie in [-1, 1], got {found}")


def plain_view(images: Rows) -> View:
    """Return the view of unencrypted images, (num_images, height, width) uint8: pixels scaled to [-1, 1]."""
    if images.dtype != np.uint8:
        raise ConfigError(f"view 'pixels': images must be uint8, for they are scaled from 0..255; got {images.dtype}")
    return View(name="pixels", array=images, table=None, trainable=False, scale=1 / 127.5, offset=-1.0)
