"""What an input was built for, against what the configuration asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ppdl.config.components import leaves, plain
from ppdl.errors import ConfigError
from ppdl.records.atomic import replacing
from ppdl.records.reading import read_object


def check_built_for(built_for: Mapping[str, Any], wanted: Mapping[str, Any], *, what: str, full_name: Callable[[str], str] = str) -> None:
    """Refuse an input that was built for other values than the configuration asks for.

    A sweep by hand (`python -m stages.train_plain -m ...`) reads what `dvc repro` built; a value that lies upstream of
    training would silently be ignored.

    Args:
        full_name: a value's place in the configuration, given its place in these mappings.

    Raises:
        ConfigError: names each value that differs, and how to use the input or to rebuild it.
    """
    if different := differing(built_for, wanted, full_name):
        from ppdl.config.choices import advice

        raise ConfigError(f"{what} was built for other values:\n{shown(different)}\n{advice(different)}")


def differing(built_for: Mapping[str, Any], wanted: Mapping[str, Any], full_name: Callable[[str], str] = str) -> dict[str, tuple[Any, Any]]:
    """Return by full name what something was built for and what the configuration says, where the two differ."""
    found, asked = leaves(built_for), leaves(wanted)
    return {full_name(k): (found.get(k), asked.get(k)) for k in sorted(asked.keys() | found.keys()) if found.get(k) != asked.get(k)}


def shown(different: Mapping[str, tuple[Any, Any]]) -> str:
    """Return what `differing` found, a line each."""
    return "\n".join(f"  {place}: built for {found!r}, the configuration says {asked!r}" for place, (found, asked) in different.items())


def write_built_for(folder: Path, values: Mapping[str, Any]) -> None:
    """Record in `folder` the values that it was built for, for `check_built_for`."""
    with replacing(folder / "built_for.json") as path:
        path.write_text(json.dumps(plain(values), indent=1) + "\n")


def read_built_for(folder: Path) -> dict[str, Any]:
    """Read what `write_built_for` recorded.

    Raises:
        ConfigError: the folder has no record, so it is missing or unfinished, or a damaged one.
    """
    return read_object(
        folder / "built_for.json",
        ConfigError,
        missing=f"build {folder.name} with `dvc repro`",
        damaged=f"build {folder.name} again with `dvc repro --force`",
    )
