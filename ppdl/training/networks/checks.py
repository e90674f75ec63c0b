"""Rules for parameters that come from a configuration file: each says the rule, then what it got."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from ppdl.errors import ConfigError


def check_integer(name: str, value: Any, *, least: int, optional: str = "") -> None:
    """Refuse anything but an integer >= `least`; with `optional` (what None means) None is welcome too."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be an integer >= {least}{_or_null(optional)}, got {value!r}")


def check_number(
    name: str, value: Any, *, least: float | None = None, above: float | None = None, below: float = math.inf, optional: str = ""
) -> None:
    """Refuse anything but a finite number within the bounds; with `optional` (what None means) None is welcome too."""
    if value is None and optional:
        return
    number = not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
    low_enough = number and value < below
    high_enough = number and (least is None or value >= least) and (above is None or value > above)
    if not (low_enough and high_enough):
        bounds = [f">= {least}" if least is not None else f"> {above}"] + ([f"< {below}"] if below != math.inf else [])
        raise ConfigError(f"{name} must be a number {' and '.join(bounds)}{_or_null(optional)}, got {value!r}")


def check_flag(name: str, value: Any) -> None:
    """Refuse anything but true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {value!r}")


def _or_null(optional: str) -> str:
    return f" or null ({optional})" if optional else ""
