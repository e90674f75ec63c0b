"""Read what another command wrote, or say what is wrong with it and what to do."""

import json
from pathlib import Path
from typing import Any

from ppdl.errors import PpdlError


def read_object(path: Path, error: type[PpdlError], *, missing: str, damaged: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        error: what is raised for a file that is missing, cannot be read, or holds something else.
        missing, damaged: what to do then.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path} is missing: {missing}") from None
    except (OSError, ValueError, RecursionError) as reason:
        raise error(f"{path} cannot be read as JSON ({reason}): {damaged}") from None
    if not isinstance(tree, dict):
        raise error(f"{path} must hold a JSON object, got {type(tree).__name__}: {damaged}")
    return tree
