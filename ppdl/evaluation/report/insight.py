"""What reports/report.html says of where networks look, and of how far their probabilities can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppdl.evaluation.report.formatting import interval as written_interval
from ppdl.evaluation.report.formatting import percent

SHORTCUT = "without_lungs_accuracy"
GRADCAM = "gradcam_lung_share"


def insight_section(metrics: Mapping[str, Mapping[str, Any]], runs: list[str]) -> dict[str, Any]:
    """Return the table of the lungs, the sentences, and the runs whose input is no picture.

    Args:
        metrics: reports/metrics.json.
        runs: of it, without the baselines.
    """
    tested = [run for run in runs if SHORTCUT in metrics[run]]
    return {
        "rows": [{"run": run, **metrics[run]} for run in tested],
        "sentences": [shortcut_sentence(run, metrics[run]) for run in tested],
        "not_tested": [run for run in runs if run not in tested] if tested else [],
        "cells": sorted({metrics[run]["gradcam_cells"] for run in tested if GRADCAM in metrics[run]}),
        "mapped": sorted({metrics[run]["gradcam_num_images"] for run in tested if GRADCAM in metrics[run]}),
    }


def calibration_rows(metrics: Mapping[str, Mapping[str, Any]], runs: list[str]) -> list[dict[str, Any]]:
    """Return the runs with a temperature: calibration error, Brier score and log loss before and after it."""
    return [{"run": run, **metrics[run]} for run in runs if "temperature" in metrics[run]]


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
