"""Arrays that are computed from others as they are read, so that memory does not grow with the data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ppdl.arrays import LazyRows


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
