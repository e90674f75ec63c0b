"""Files that are damaged by chance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.image_io import read_gray_bytes


def reasons_of_damage(content: bytes, first: int, num_places: int) -> Iterator[str]:
    """Cut a file, or change a byte, at places from `first` on, and yield why it is refused, where it is not read all the same."""
    rng = np.random.default_rng(0)
    for at in rng.integers(first, len(content), num_places):
        damaged = bytearray(content)
        damaged[at] = rng.integers(256)
        for case in (bytes(damaged), content[:at]):
            try:
                read_gray_bytes(case)
            except BadImageError as error:
                yield str(error)
