"""Exponents of one's own, where a source draws them at random."""

from collections.abc import Sequence

import numpy as np

from ppdl.crypto.arithmetic.powertable import Windows


def cut(windows: Windows, exponents: Sequence[int]) -> np.ndarray:
    """Cut exponents into digits, as `Windows.random_digits` draws them."""
    starts = np.cumsum([0, *windows.widths[:-1]]).tolist()
    digits = [[int(e >> start) & ((1 << width) - 1) for e in exponents] for start, width in zip(starts, windows.widths, strict=True)]
    return np.array(digits, np.uint16).reshape(len(starts), len(exponents))
