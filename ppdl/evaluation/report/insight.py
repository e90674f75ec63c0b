"""What reports/report.html says of where networks look, and of how far their probabilities can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppdl.evaluation.insight.lungs import shortcut_sentence

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
