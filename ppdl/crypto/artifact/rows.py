"""Read rows of many arrays as if they were one, without loading them."""

import math
from collections.abc import Callable, Sequence

import numpy as np


class ShardedRows:
    """Read rows of consecutive shards as if they were one array; each shard is opened (and so verified) at first access.

    Args:
        starts: (num_shards + 1,), first row of each shard, then the number of rows.
        row_shape: shape of a row.
        open_shard: gives the array of shard i.

    Index with an integer, a slice, or an array of integers or booleans for the first axis; further indices apply to the result.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, starts: Sequence[int], row_shape: tuple[int, ...], open_shard: Callable[[int], np.ndarray]) -> None:
        self._starts = np.asarray(starts, np.int64)
        self._open = open_shard
        self.shape = (int(self._starts[-1]), *row_shape)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        array = self[:]
        return np.array(array, dtype, copy=bool(copy)) if copy or dtype not in (None, self.dtype) else np.asarray(array)

    def __getitem__(self, key: object) -> np.ndarray:
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        rows = self._rows(first)
        return rows[(slice(None),) * (rows.ndim == self.ndim) + rest] if rest else rows

    def _rows(self, key: object) -> np.ndarray:
        if isinstance(key, int | np.integer):
            index = range(len(self))[key]
            shard = int(np.searchsorted(self._starts, index, "right")) - 1
            return self._open(shard)[index - self._starts[shard]]
        if isinstance(key, slice) and key.step in (None, 1):
            begin, end, _ = key.indices(len(self))
            return self._run(begin, max(begin, end))
        wanted = self._indices(key)
        out = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        shards = np.searchsorted(self._starts, wanted, "right") - 1
        for shard in np.unique(shards):
            places = np.flatnonzero(shards == shard)
            out[places] = self._open(int(shard))[wanted[places] - self._starts[shard]]
        return out

    def _indices(self, key: object) -> np.ndarray:
        """Turn a stepped slice, a mask or integers into row numbers in [0, len)."""
        if isinstance(key, slice):
            return np.arange(*key.indices(len(self)))
        wanted = np.asarray(key)
        if wanted.dtype == bool and wanted.shape == (len(self),):
            return np.flatnonzero(wanted)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise IndexError(f"rows are picked by integers (n,) or a mask ({len(self)},), got {wanted.dtype} {wanted.shape}")
        wanted = wanted.astype(np.int64)
        if wanted.size and not -len(self) <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows must be in [{-len(self)}, {len(self)}), got {wanted.min()} to {wanted.max()}")
        return np.where(wanted < 0, wanted + len(self), wanted)

    def _run(self, begin: int, end: int) -> np.ndarray:
        """Give rows [begin, end): a view where one shard holds them all, else a copy."""
        first = int(np.searchsorted(self._starts, begin, "right")) - 1
        last = int(np.searchsorted(self._starts, end, "left")) - 1
        if begin == end:
            return np.empty((0, *self.shape[1:]), np.uint8)
        parts = [self._open(i)[max(begin - self._starts[i], 0) : end - self._starts[i]] for i in range(first, last + 1)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
