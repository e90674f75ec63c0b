"""A Keras model file as an MLflow model: signature, input example, requirements.

`mlflow.keras.log_model` is not used as it is (MLflow 3.17): with an input example it fails on a missing folder
(github.com/mlflow/mlflow/issues/16183), it loads the model in a second process to infer requirements, and once more to
run the example through it. MobileNetV2, alpha 0.35, on a busy 2-core machine: 16.5 s with inferred requirements, 5.6 s
with the example run, 0.6 s as here. The tests show once that a logged model loads and answers.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.errors import TrackingError
from ppdl.tracking.runs.record import ModelRecord
from ppdl.tracking.store import Store

if TYPE_CHECKING:
    import keras

MODEL_NAME = "model"
MODEL_FILE = "model.keras"


def model_record(model: keras.Model, *, num_symbols: int, step: int, metadata: Mapping[str, Any] | None = None) -> ModelRecord:
    """Describe a Keras model of one input and one output. See `ModelRecord` for the arguments."""
    (taken,), (given,) = model.inputs, model.outputs
    return ModelRecord(tuple(taken.shape[1:]), taken.dtype, tuple(given.shape[1:]), given.dtype, num_symbols, step, metadata or {})


def input_example(record: ModelRecord) -> np.ndarray:
    """Build a valid input that is no patient's image: each row runs through the symbols from 0 to num_symbols - 1.

    Returns:
        (1, *input_shape) array of the model's input type.
    """
    _, width, *channels = record.input_shape
    ramp = np.arange(width) * (record.num_symbols - 1) // max(width - 1, 1)
    image = np.broadcast_to(ramp.reshape(1, 1, width, *(1 for _ in channels)), (1, *record.input_shape))
    return np.ascontiguousarray(image).astype(record.input_dtype)


def log_model_file(store: Store, run_id: str, path: Path, record: ModelRecord) -> str:
    """Log a .keras file as the model of a run, byte for byte, and return its model id (`models:/<id>`).

    Args:
        path: file that `keras.Model.save` wrote. Arrays beside it (*.npz), which predictions need too, are logged with it.

    Raises:
        TrackingError: `path` is no .keras file.

    Cost: reads and writes the file once; 0.2 s besides.
    """
    from mlflow.entities import LoggedModelOutput

    if not _is_keras_file(path):
        raise TrackingError(f"{path} is not a file that `keras.Model.save` wrote, so it was not logged")
    logged = store.client.create_logged_model(store.experiment_id, name=MODEL_NAME, source_run_id=run_id)
    with tempfile.TemporaryDirectory() as folder:
        _write_model(folder, path, record, logged, run_id)
        for beside in path.parent.glob("*.npz"):
            shutil.copyfile(beside, Path(folder) / "data" / beside.name)
        store.client.log_model_artifacts(logged.model_id, folder)
    store.client.finalize_logged_model(logged.model_id, "READY")
    store.client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, record.step)])
    return logged.model_id


class _SavedModel:
    """A file in the place of a model, so that MLflow stores the very bytes that DVC stores."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, path: str) -> None:
        shutil.copyfile(self.path, path)


def _write_model(folder: str, path: Path, record: ModelRecord, logged: Any, run_id: str) -> None:
    import mlflow.keras
    from mlflow.models import Model

    # A packaging tool's absence is not the user's to mend: environments made by uv have no pip.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    mlflow_model = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id, model_uuid=logged.model_id)
    mlflow.keras.save_model(
        _SavedModel(path),
        folder,
        mlflow_model=mlflow_model,
        signature=_signature(record),
        input_example=input_example(record),
        pip_requirements=[pinned(package) for package in ("keras", "tensorflow", "numpy")],
        metadata=dict(record.metadata),
    )


def _is_keras_file(path: Path) -> bool:
    """Tell whether a file is an archive that holds a network's configuration as JSON."""
    try:
        with zipfile.ZipFile(path) as archive:
            json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return False
    return True


def _signature(record: ModelRecord) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(dtype: str, shape: tuple[int, ...]) -> Schema:
        return Schema([TensorSpec(np.dtype(dtype), (-1, *shape))])

    return ModelSignature(schema(record.input_dtype, record.input_shape), schema(record.output_dtype, record.output_shape))


def pinned(package: str) -> str:
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        return package
