"""How numbers, texts and images are written on the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ppdl.evaluation.measures import statistics

_ACRONYMS = ("ssim", "psnr", "npcr", "uaci", "auroc", "ece")
_BYTES = ("B", "kB", "MB", "GB", "TB")


def percent(share: float | None) -> str:
    """Write 0.8458 as "84.6 %"."""
    return "" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def interval(low: float | None, high: float | None) -> str:
    """Write shares as "[78.6, 90.0]", nothing where an end lacks."""
    return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


def ends(low: float | None, high: float | None) -> str:
    """Write "[0.97, 1.00]", nothing where an end lacks."""
    return "" if low is None or high is None else f"[{fixed(low)}, {fixed(high)}]"


def points(difference: float) -> str:
    """Write a difference of shares in points, with its sign."""
    return statistics.points(difference).replace("-", "\N{MINUS SIGN}")


def fixed(value: float | None, digits: int = 2) -> str:
    """Write a number with so many decimals and a true minus sign."""
    return "" if value is None else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def count(value: float) -> str:
    """Write 20000 as "20,000"."""
    return f"{value:,}"


def seconds(value: float) -> str:
    """Write a time in the unit that suits it."""
    if value >= 7200:
        return f"{value / 3600:.1f}\N{NO-BREAK SPACE}h"
    if value >= 120:
        return f"{value / 60:.1f}\N{NO-BREAK SPACE}min"
    return f"{value:.1f}\N{NO-BREAK SPACE}s" if value >= 1 else f"{1000 * value:.3g}\N{NO-BREAK SPACE}ms"


def size(num_bytes: float) -> str:
    """Write a size in the decimal unit that suits it."""
    for unit in _BYTES[:-1]:
        if num_bytes < 1000:
            return f"{num_bytes:.3g}\N{NO-BREAK SPACE}{unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g}\N{NO-BREAK SPACE}{_BYTES[-1]}"


def words(name: str) -> str:
    """Write the name of an attack or a figure as words."""
    return " ".join(part.upper() if part in _ACRONYMS else part for part in name.split("_"))


def plain(value: Any) -> str:
    """Write any JSON value shortly."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
    if isinstance(value, int):
        return count(value).replace("-", "\N{MINUS SIGN}")
    if isinstance(value, dict):
        return ", ".join(f"{words(str(key))} {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(plain(item) for item in value)
    return str(value)


def listed(names: Sequence[str]) -> str:
    """Write names as "a, b and c"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def share_of(value: float | None) -> str:
    """Return a number clipped to [0, 1] as a CSS percentage: the length of a bar."""
    return f"{100 * min(max(value or 0.0, 0.0), 1.0):.1f}%"


def data_uri(png: bytes) -> str:
    """Return a PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def png(image: np.ndarray) -> bytes:
    """Return a (height, width) or (height, width, 3) uint8 image as PNG, every pixel as it is."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "png", optimize=True)
    return stream.getvalue()


FILTERS = {
    filter_.__name__: filter_ for filter_ in (percent, interval, ends, points, fixed, count, seconds, size, words, plain, listed, share_of)
}
