"""Read what another command wrote, or say what is wrong with it and what to do."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.errors import PpdlError


def read_object(path: Path, error: type[PpdlError], *, missing: str, damaged: str, form: str | None = None) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        error: what is raised for a file that is missing, cannot be read, or holds something else.
        missing, damaged: what to do then.
        form: what its member `format` must be, which is left out of what is returned.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path} is missing: {missing}") from None
    except (OSError, ValueError, RecursionError) as reason:
        raise error(f"{path} cannot be read as JSON ({reason}): {damaged}") from None
    if not isinstance(tree, dict):
        raise error(f"{path} must hold a JSON object, got {type(tree).__name__}: {damaged}")
    if form is not None and (found := tree.pop("format", None)) != form:
        raise error(f'{path} must have "format": {form!r}, got {found!r}: {damaged}')
    return tree


def read_arrays(path: Path, error: type[PpdlError], *, names: Iterable[str] | None, missing: str, damaged: str) -> dict[str, np.ndarray]:
    """Read arrays of an .npz file: those of some names, or all. Nothing is unpickled. See `read_object`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in (file.files if names is None else names)}
    except FileNotFoundError:
        raise error(f"{path} is missing: {missing}") from None
    except Exception as reason:  # numpy, zipfile and zlib let through nearly every kind
        raise error(f"{path} cannot be read as arrays ({type(reason).__name__}: {reason}): {damaged}") from None
