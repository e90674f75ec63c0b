"""Arrays that are computed from others as they are read, so that memory does not grow with the data set."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


class MappedRows:
    """Stand for an array whose row i is computed from row i of another.

    Index it on the first axis as an array (integer, slice, row numbers, mask); further indices apply to the result.

    Args:
        rows: what is read, indexed on its first axis.
        function: turns (k, ...) rows of it into (k, *row_shape).
        row_shape: shape of a row of the result.
        dtype: dtype of the result.
    """

    def __init__(self, rows: Any, function: Callable[[np.ndarray], np.ndarray], row_shape: tuple[int, ...], dtype: Any) -> None:
        self._rows, self._function = rows, function
        self.shape = (len(rows), *row_shape)
        self.dtype = np.dtype(dtype)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        if isinstance(first, int | np.integer):
            row = self._function(np.asarray(self._rows[first])[None])[0]
            return row[rest] if rest else row
        found = self._function(np.asarray(self._rows[first]))
        return found[(slice(None), *rest)] if rest else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
