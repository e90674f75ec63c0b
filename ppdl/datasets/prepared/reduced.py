"""Images at a smaller size, computed as they are read, so that memory does not grow with the data set."""

import numpy as np

from ppdl.datasets.prepared.resize import area_mean
from ppdl.errors import ConfigError


class Reduced:
    """Stand for (num_images, px, px) uint8, the exact area mean of larger images, without holding it.

    Index it on the first axis as an array (slice, row numbers, mask); only those rows are read and averaged.

    Args:
        images: (num_images, height, height) uint8, memory-mapped.
        px: side of the images that this stands for; must divide height.

    Raises:
        ConfigError: `px` does not divide the images' side.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, images: np.ndarray, px: int) -> None:
        height = images.shape[1]
        if px < 1 or height % px:
            raise ConfigError(f"input_px must divide prepared_px, for images are shrunk by a whole factor; got {px} and {height}")
        self._images = images
        self.shape = (len(images), px, px)

    @property
    def size(self) -> int:
        """Return the number of pixels."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray | int) -> np.ndarray:
        if isinstance(rows, int | np.integer):
            return area_mean(self._images[rows][None], self.shape[1])[0]
        return area_mean(self._images[rows], self.shape[1])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
