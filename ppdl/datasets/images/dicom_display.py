"""Turn the stored values of a gray DICOM image into 8-bit gray: modality LUT, then VOI LUT or window.

Source: DICOM PS3.3 C.11.1 (modality LUT), C.11.2 (VOI LUT), PS3.5 8.1.1 (stored values).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ppdl.datasets.images.gray import BadImageError, check_depth, to_8_bit

_WINDOW_BITS = 16  # a window's output range; its top 8 bits stay
_WAY_OUT = "give it a window that fits its values (Window Center, Window Width), one for all files of a maker"


@dataclass(frozen=True)
class Stored:
    """Stored values of a gray image.

    Attributes:
        values: (height, width) int32 or int64.
        bits: Bits of a value.
        is_signed: They go from -2^(bits-1) to 2^(bits-1) - 1, not from 0 to 2^bits - 1.
        used: (height, width) bool, where a value is no padding; some are.
    """

    values: np.ndarray
    bits: int
    is_signed: bool
    used: np.ndarray

    @property
    def low(self) -> int:
        """Return the least value that may be stored."""
        return -(1 << self.bits - 1) if self.is_signed else 0

    @property
    def high(self) -> int:
        """Return the greatest value that may be stored."""
        return self.low + (1 << self.bits) - 1

    @property
    def is_narrow(self) -> bool:
        """Tell whether fewer bits would hold all values but padding."""
        used = self.values[self.used]
        return self.low // 2 <= int(used.min()) and int(used.max()) <= self.high // 2


@dataclass(frozen=True)
class Lut:
    """A look-up table: entry i is for the value first + i; values before and behind get the first and the last entry."""

    entries: np.ndarray
    first: int
    bits: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Look values up."""
        return self.entries[np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)]


def displayed(dataset: Any, stored: Stored) -> np.ndarray:
    """Apply modality LUT and VOI LUT or window: (height, width) uint8, before photometric interpretation.

    Raises:
        BadImageError: A table or window breaks its rule, or leaves too few gray levels of more than 8 bits.
    """
    modality = _lut(dataset, "Modality LUT Sequence", signed=stored.is_signed)
    slope, intercept = (1.0, 0.0) if modality else (_number(dataset, "Rescale Slope", 1), _number(dataset, "Rescale Intercept", 0))
    if slope == 0:
        raise BadImageError("Rescale Slope is 0, so every pixel is the same")
    values = modality(stored.values) if modality else stored.values * slope + intercept
    low = 0.0 if modality else min(slope * stored.low, slope * stored.high) + intercept
    voi = _lut(dataset, "VOI LUT Sequence", signed=low < 0)
    if voi:
        return _kept(stored, voi(values), voi.bits, "VOI LUT")
    centre, width = _number(dataset, "Window Center"), _number(dataset, "Window Width")
    if centre is not None and width is not None:
        levels = np.floor(_window(values, centre, width, _function(dataset)) * (2**_WINDOW_BITS - 1)).astype(np.int64)
        return _kept(stored, levels, _WINDOW_BITS, f"window (center {centre:g}, width {width:g})")
    if modality:
        return _kept(stored, values, modality.bits, "modality LUT")
    levels = stored.values - stored.low if slope > 0 else stored.high - stored.values  # turned over where the slope is negative
    gray = to_8_bit(levels, stored.bits)
    if stored.bits > 8:
        used = stored.values[stored.used]
        found = f"{stored.bits}-bit pixels that use only {used.min()} to {used.max()}"
        check_depth(gray[stored.used], dark=stored.is_narrow, found=found, way_out=_WAY_OUT)
    return gray


def _kept(stored: Stored, levels: np.ndarray, bits: int, by: str) -> np.ndarray:
    """Keep 8 bits of what a table or window gives, in which more than 8 stored bits must reach the upper half."""
    gray = to_8_bit(levels, bits)
    if bits > 8 or stored.bits > 8:
        values, shown = stored.values[stored.used], levels[stored.used]
        found = f"the {by} shows the values {values.min()} to {values.max()} as {shown.min()} to {shown.max()} of {2**bits - 1}"
        check_depth(gray[stored.used], dark=stored.bits > 8 and int(shown.max()) < 2 ** (bits - 1), found=found, way_out=_WAY_OUT)
    return gray


def _window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Return the part of the output range that a window gives to each value, 0 to 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if width < 1 if function == "LINEAR" else width <= 0:
        raise BadImageError(f"Window Width is {width:g}, but must be {'at least 1' if function == 'LINEAR' else 'above 0'}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _function(dataset: Any) -> str:
    function = dataset.get("VOILUTFunction") or "LINEAR"  # absent or empty
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise BadImageError(f"VOI LUT Function {function} is not supported, only LINEAR, LINEAR_EXACT and SIGMOID")
    return str(function)


def _number(dataset: Any, name: str, default: float | None = None) -> Any:
    """Return the first value of an attribute that holds numbers, or `default` where it is absent or empty."""
    value = dataset.get(name.replace(" ", ""))
    values = [value] if isinstance(value, str) or not hasattr(value, "__len__") else list(value)
    if not values or values[0] is None or values[0] == "":
        return default
    try:
        number = float(values[0])
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise BadImageError(f"{name} is {values[0]!r}, which is no number")
    return number


def _lut(dataset: Any, name: str, *, signed: bool) -> Lut | None:
    """Return the first table of a sequence, or None where it is absent or empty.

    Args:
        signed: The values that are looked up may be negative, so that the first of them is stored as a signed number; in implicit VR
            nothing else tells (PS3.3 C.11.1.1 and C.11.2.1.1).
    """
    items = dataset.get(name.replace(" ", ""))
    if not items or items[0].get("LUTData") is None:
        return None
    what = f"the LUT of {name}"
    descriptor = [int(number) & 0xFFFF for number in items[0].get("LUTDescriptor") or ()]
    if len(descriptor) != 3 or not 8 <= descriptor[2] <= 16:
        raise BadImageError(f"{what} must have a LUT Descriptor of three numbers, the last 8 to 16 bits, found {descriptor}")
    size, first, bits = descriptor[0] or 1 << 16, descriptor[1], descriptor[2]
    entries = _entries(items[0], size, bits)
    if len(entries) != size:
        raise BadImageError(f"{what} must have {size} entries as its LUT Descriptor says, found {len(entries)}")
    if entries.max() >> bits:
        raise BadImageError(f"{what} has entries up to {entries.max()}, which its LUT Descriptor contradicts: {bits} bits")
    if bits > 8 and not entries.max() >> (bits - 1):
        raise BadImageError(
            f"{what} has entries up to {entries.max()} only, though its LUT Descriptor says {bits} bits: all would be dark; "
            f"if the entries have {int(entries.max()).bit_length()} bits, say so in the LUT Descriptor"
        )
    return Lut(entries, first - (1 << 16) if signed and first >> 15 else first, bits)


def _entries(item: Any, size: int, bits: int) -> np.ndarray:
    """Return LUT Data as integers. Entries of 8 bits may lie two in a word, the lower half first (PS3.3 C.11.1.1.1, PS3.5 8.1.1)."""
    data = item.LUTData
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if item.original_encoding[1] is not False else ">u2")
    else:
        words = np.atleast_1d(np.asarray(data)).astype(np.int64) & 0xFFFF
    if bits == 8 and len(words) == (size + 1) // 2 < size:
        return words.astype("<u2").view(np.uint8)[:size].astype(np.int64)
    return words.astype(np.int64)
