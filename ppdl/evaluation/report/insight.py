"""What reports/report.html says of where networks look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppdl.evaluation.report.formatting import interval as written_interval
from ppdl.evaluation.report.formatting import percent

SHORTCUT = "without_lungs_accuracy"


def shortcut_sentence(run: str, found: Mapping[str, Any]) -> str:
    """Say what the shortcut test found.

    Args:
        found: without_lungs_accuracy with its ends, whole_accuracy_low, and lungs_chance.
    """
    value, low, high = (found[f"without_lungs_accuracy{end}"] for end in ("", "_low", "_high"))
    said = f"With the lungs blanked out, {run} is right on {percent(value)} {written_interval(low, high)}"
    chance = f"chance ({percent(found['lungs_chance'])})"
    if low > found["lungs_chance"]:
        return f"{said}, above {chance}: something outside the lungs gives classes away, a shortcut. Its accuracy is not all about lungs."
    if found["whole_accuracy_low"] <= found["lungs_chance"]:
        return f"{said}, not above {chance}. Nor is it on whole images: it has learned nothing that could be a shortcut."
    return f"{said}, not above {chance}: no sign of a shortcut outside the lungs, and no proof that there is none."
