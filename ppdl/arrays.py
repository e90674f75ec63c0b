"""What all kinds of arrays in this package have in common, and arrays whose rows are made as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Rows(Protocol):
    """What is read row by row like an array: an array in memory, a memory map, or one whose rows are made as they are asked for.

    Index it on its first axis (an integer, a slice, row numbers, a mask); numpy's functions read the whole of it.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...

    def __array__(self) -> np.ndarray: ...


class LazyRows:
    """Stand for an array that is not held: its rows are made as they are asked for, so that memory does not grow with the data set.

    Index it as an array, on the first axis with an integer, a slice, row numbers or a mask; further indices apply to the result.

    Args:
        num_rows: length of the first axis.
        row_shape: shape of a row.
        dtype: of the array.
        read: gives rows, (n, *row_shape), for a slice of step 1 or row numbers (n,), in [0, num_rows).

    Raises:
        IndexError: (when indexed) no such row, or neither row numbers nor a mask.
    """

    def __init__(
        self, num_rows: int, row_shape: tuple[int, ...], dtype: npt.DTypeLike, read: Callable[[slice | np.ndarray], np.ndarray]
    ) -> None:
        self._read = read
        self.shape, self.dtype = (num_rows, *row_shape), np.dtype(dtype)
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype, copy=copy)

    def __getitem__(self, key: Any) -> np.ndarray:
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        if isinstance(first, int | np.integer):
            index = range(len(self))[first]
            row = self._read(slice(index, index + 1))[0]
            return row[rest] if rest else row
        rows = self._read(self._wanted(first))
        return rows[(slice(None), *rest)] if rest else rows

    def _wanted(self, key: object) -> slice | np.ndarray:
        """Turn a slice, a mask or integers into a slice of step 1 or row numbers in [0, len)."""
        if isinstance(key, slice):
            begin, end, step = key.indices(len(self))
            return slice(begin, max(begin, end)) if step == 1 else np.arange(begin, end, step)
        wanted = np.asarray(key)
        if wanted.dtype == bool and wanted.shape == (len(self),):
            return np.flatnonzero(wanted)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise IndexError(f"rows are picked by integers (n,) or a mask ({len(self)},), got {wanted.dtype} {wanted.shape}")
        wanted = wanted.astype(np.int64)
        if wanted.size and not -len(self) <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows must be in [{-len(self)}, {len(self)}), got {wanted.min()} to {wanted.max()}")
        return np.where(wanted < 0, wanted + len(self), wanted)


class MappedRows(LazyRows):
    """Stand for an array whose row i is computed from row i of another.

    Args:
        rows: what is read, indexed on its first axis.
        function: turns (k, ...) rows of it into (k, *row_shape).
        row_shape: shape of a row of the result.
        dtype: dtype of the result.
    """

    def __init__(self, rows: Any, function: Callable[[np.ndarray], np.ndarray], row_shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__(len(rows), row_shape, dtype, lambda key: function(np.asarray(rows[key])))
