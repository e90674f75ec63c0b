"""Loader that a logged model names: import the modules of our layers, then load as MLflow does.

Called by `mlflow.pyfunc.load_model` and thus by `mlflow models serve`. With `mlflow.keras.load_model` import those
modules yourself; they are in the metadata of the model.
"""

from __future__ import annotations

import importlib
from typing import Any

from ppdl.errors import TrackingError


def _load_pyfunc(path: str) -> Any:
    from mlflow.models import Model

    for module in (Model.load(path).metadata or {}).get("modules", ()):
        if module.split(".")[0] != "ppdl":  # a model file may come from anyone, and an import runs code
            raise TrackingError(f"{path} asks to import {module!r}: only modules of ppdl are imported for a model")
        importlib.import_module(module)
    return importlib.import_module("mlflow.keras")._load_pyfunc(path)
