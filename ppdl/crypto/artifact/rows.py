"""Read rows of many arrays as if they were one, without loading them."""

from collections.abc import Callable, Sequence

import numpy as np

from ppdl.arrays import LazyRows


class ShardedRows(LazyRows):
    """Read rows of consecutive shards as if they were one array; each shard is opened (and so verified) at first access.

    Args:
        starts: (num_shards + 1,), first row of each shard, then the number of rows.
        row_shape: shape of a row.
        open_shard: gives the array of shard i.
    """

    def __init__(self, starts: Sequence[int], row_shape: tuple[int, ...], open_shard: Callable[[int], np.ndarray]) -> None:
        self._starts, self._open = np.asarray(starts, np.int64), open_shard
        super().__init__(int(self._starts[-1]), row_shape, np.uint8, self._rows)

    def _rows(self, wanted: slice | np.ndarray) -> np.ndarray:
        if isinstance(wanted, slice):
            return self._run(wanted.start, wanted.stop)
        out = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        shards = np.searchsorted(self._starts, wanted, "right") - 1
        for shard in np.unique(shards):
            places = np.flatnonzero(shards == shard)
            out[places] = self._open(int(shard))[wanted[places] - self._starts[shard]]
        return out

    def _run(self, begin: int, end: int) -> np.ndarray:
        """Give rows [begin, end): a view where one shard holds them all, else a copy."""
        if begin == end:
            return np.empty((0, *self.shape[1:]), np.uint8)
        first = int(np.searchsorted(self._starts, begin, "right")) - 1
        last = int(np.searchsorted(self._starts, end, "left")) - 1
        parts = [self._open(i)[max(begin - self._starts[i], 0) : end - self._starts[i]] for i in range(first, last + 1)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
