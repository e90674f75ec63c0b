"""Names of metrics. MLflow's charts make one section for each prefix before the last `/`.

| section   | metrics                                                        | step  |
|-----------|----------------------------------------------------------------|-------|
| `answer/` | accuracy, attacker_gain, bytes_per_pixel, protect_seconds      | 0     |
| `train/`  | loss, accuracy, log_loss, learning_rate, images_per_s, seconds | epoch |
| `val/`    | loss, accuracy, log_loss: Keras' `val_loss`, `val_accuracy`... | epoch |
| `fit/`    | best_epoch, best_val_log_loss, seconds and what else once      | 0     |
| `test/`   | accuracy, accuracy_low, accuracy_high, macro_f1, auroc, ...    | 0     |

`audit/` and `cost/` come from later steps, through `log_results`. `answer/` repeats for every run,
plain too, what a comparison is about; its name puts it above the others in MLflow's tables.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from ppdl.errors import TrackingError
from ppdl.tracking.runs.redact import valid_name


def epoch_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Rename the metrics of one epoch from Keras' names to ours; `epoch` itself is the step and is left out."""
    renamed = {
        f"val/{name.removeprefix('val_')}" if name.startswith("val_") else f"train/{name}": value
        for name, value in metrics.items()
        if name != "epoch"
    }
    return numbers_only(renamed)


def section_metrics(section: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Put metrics under `section/`; nested mappings become deeper sections, None (undefined) is left out.

    Raises:
        TrackingError: a value is no number.
    """
    return numbers_only({f"{section}/{name}": value for name, value in metrics.items()})


def numbers_and_words(metrics: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Part a run's figures from its words, such as the verdict of the control, which MLflow takes as tags."""
    words = {name: value for name, value in metrics.items() if isinstance(value, str)}
    return {name: value for name, value in metrics.items() if name not in words}, words


def numbers_only(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Flatten nested mappings with `/`, drop None, and turn the rest into floats. Raises as `section_metrics`."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= numbers_only({f"{name}/{inner}": v for inner, v in value.items()})
        elif isinstance(value, numbers.Real):  # also numpy's scalars
            flat[valid_name(name)] = float(value)
        elif value is not None:
            raise TrackingError(f"metric {name} must be a number, got {value!r}")
    return flat
