"""The one thing that all kinds of arrays in this package have in common."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


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
