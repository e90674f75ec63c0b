"""Integer filters of a linear stem: what they are, and which ones a key holder approves.

A filter is a weight for each pixel of a stride * stride patch, row by row. Its output is the weighted sum of the patch, an exact integer.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.crypto.arithmetic.linear import dct_filters
from ppdl.crypto.arithmetic.packing import linear_bound
from ppdl.errors import ArtifactError, ConfigError, KeyStoreError
from ppdl.records.typecheck import check_types

STRIDES = (2, 4, 8)
LARGEST_PIXEL = 255
LARGEST_WEIGHT = 2**15
APPROVED_FILE = "approved.json"
_NAMES = {"filters", "channels", "weight_bits"}  # of a choice of filters


@dataclass(frozen=True)
class Filters:
    """Choose the filters of a stem.

    Args:
        filters: `dct` (the lowest DCT-II components: mean, horizontal, vertical), `mean`, or the integer weights themselves,
            (channels, stride * stride).
        channels: number of filters, 1 to 3: the channels of the network's input.
        weight_bits: `dct` alone: the largest weight is 2^(weight_bits - 1) - 1, see ppdl.crypto.arithmetic.linear.dct_filters.

    Raises:
        ConfigError: a value breaks its rule.
    """

    filters: str | Sequence[Sequence[int]]
    channels: int
    weight_bits: int

    def __post_init__(self) -> None:
        if type(self.channels) is not int or not 1 <= self.channels <= 3:
            raise ConfigError(f"channels must be 1, 2 or 3, for they become the network's input channels; got {self.channels!r}")
        check_weight_bits(self.weight_bits)
        if isinstance(self.filters, str):
            if self.filters not in ("dct", "mean"):
                raise ConfigError(f"filters must be dct, mean or a list of integer filters, got {self.filters!r}")
        else:
            object.__setattr__(self, "filters", tuple(_checked_row(row) for row in self.filters))
        count = {"dct": self.channels, "mean": 1}.get(self.filters) if isinstance(self.filters, str) else len(self.filters)
        if count != self.channels:
            raise ConfigError(f"channels must be the number of filters, {count} for filters={self.filters}, got {self.channels}")

    def matrix(self, stride: int) -> np.ndarray:
        """Return the weights at a stride, (channels, stride * stride) int64, input dy * stride + dx.

        Raises:
            ConfigError: given filters are for another stride.
        """
        if self.filters == "dct":
            return dct_filters(stride, self.channels, self.weight_bits)
        if self.filters == "mean":
            return np.ones((1, stride * stride), np.int64)
        if len(self.filters[0]) != stride * stride:
            raise ConfigError(f"filters must have stride * stride = {stride * stride} weights each, got {len(self.filters[0])}")
        return np.array(self.filters, np.int64)

    def spec(self) -> dict[str, Any]:
        """Return the choice as JSON values."""
        spec = asdict(self)
        return spec if isinstance(self.filters, str) else spec | {"filters": [list(row) for row in self.filters]}


def check_weight_bits(weight_bits: int) -> None:
    """Raise ConfigError unless dct_filters can make filters of so many bits."""
    if type(weight_bits) is not int or not 2 <= weight_bits <= 16:
        raise ConfigError(f"weight_bits must be an integer from 2 to 16, got {weight_bits!r}")


def _checked_row(row: Any) -> tuple[int, ...]:
    if isinstance(row, str) or not isinstance(row, Sequence) or not row:
        raise ConfigError(f"each filter must be a list of stride * stride integers, got {row!r}")
    for weight in row:
        if type(weight) is not int or abs(weight) > LARGEST_WEIGHT:
            raise ConfigError(f"each weight must be an integer from -{LARGEST_WEIGHT} to {LARGEST_WEIGHT}, got {weight!r}")
    if not any(row):
        raise ConfigError("a filter must have a weight that is not 0, or its output hides nothing and shows nothing; got only zeros")
    return tuple(row)


def filters_sha256(weights: np.ndarray) -> str:
    """Return the digest of integer filters, SHA-256 in hex of their compact JSON."""
    return hashlib.sha256(json.dumps(weights.tolist(), separators=(",", ":")).encode()).hexdigest()


def output_range(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest output of each filter on pixels, two arrays (channels,) int64."""
    return LARGEST_PIXEL * np.minimum(weights, 0).sum(1), LARGEST_PIXEL * np.maximum(weights, 0).sum(1)


def weight_bits_for(weights: np.ndarray, stride: int) -> int | None:
    """Return the least weight_bits whose DCT filters need as much room in a slot as `weights`; None when no allowed value does."""
    needed = linear_bound(weights, LARGEST_PIXEL).bit_length()
    fits = (b for b in range(2, 17) if linear_bound(dct_filters(stride, 3, b), LARGEST_PIXEL).bit_length() >= needed)
    return next(fits, None)


def approved_filters(approved: Sequence[Filters], stride: int) -> dict[str, np.ndarray]:
    """Return what the key holder approves at a stride, the weights (channels, stride * stride) by their digest.

    Filters that were given for another stride do not count.
    """
    matrices = [f.matrix(stride) for f in approved if isinstance(f.filters, str) or len(f.filters[0]) == stride * stride]
    return {filters_sha256(matrix): matrix for matrix in matrices}


def load_approved(private_dir: Path) -> tuple[Filters, ...]:
    """Load the key holder's own list, `approved.json` beside the private keys.

    The file holds a JSON list of objects with `filters`, `channels` and `weight_bits`.

    Raises:
        KeyStoreError: it is missing, others may write to it, or it is not such a list.
    """
    path = Path(private_dir) / APPROVED_FILE
    if not path.exists():
        raise KeyStoreError(
            f"{path} is missing. It alone says what may be decrypted where roles are apart (signing.trusted asks for others' signatures), "
            "or where it did so once under this key: reveal.approved of the project does not replace it. Write it, for instance as "
            '[{"filters": "dct", "channels": 3, "weight_bits": 4}], with chmod 600'
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o022:
        raise KeyStoreError(f"{path}: others may change what you approve: chmod 600 {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return parse_approved(content)
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise KeyStoreError(f"{path}: must be a JSON list of filters as in protections.NAME.reveal.approved: {error}") from None


def parse_approved(content: Any) -> tuple[Filters, ...]:
    """Build a list of filters from plain values.

    Raises:
        ConfigError: it is no list of objects with exactly `filters`, `channels` and `weight_bits`.
    """
    if isinstance(content, str | Mapping) or not isinstance(content, Sequence):
        raise ConfigError(f"approved must be a list of filters, got {content!r}")
    for item in content:
        if not isinstance(item, Mapping) or set(item) != _NAMES:
            raise ConfigError(f"each approved entry must have exactly {', '.join(sorted(_NAMES))}, got {item!r}")
        check_types(Filters, item, "filters")
    return tuple(Filters(**item) for item in content)


def claimed_filters(params: Mapping[str, Any], where: Path) -> Filters:
    """Build the filters that an artifact's header claims: `stem`; or `filters`, where `stem` holds other arguments of another step.

    Raises:
        ArtifactError: the claim is no valid choice of filters, or the arguments are no plain values, or filters themselves.
    """
    stem, filters = params.get("stem"), params.get("filters")
    try:
        if filters is None:
            return parse_approved([stem])[0]
        if not isinstance(stem, Mapping) or set(stem) == _NAMES or not all(isinstance(value, int | str) for value in stem.values()):
            raise ConfigError(f"beside `filters`, `stem` must have whole numbers and texts that are no filters themselves, got {stem!r}")
        return parse_approved([filters])[0]
    except ConfigError as error:
        raise ArtifactError(f"{where}: the header's filters are invalid: {error}; run the stem again") from None
