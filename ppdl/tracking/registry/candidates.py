"""Which runs may be registered: the finished ones on what lies in the checkout, the best by validation first."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ppdl.tracking.query import StoredRun, finished_runs
from ppdl.tracking.store import Store

VALIDATION = "fit/best_val_log_loss"


@dataclass(frozen=True)
class Candidate:
    """A finished run that may be registered.

    Attributes:
        model_id: of its Keras model.
        metadata: of the model. config: the run's configuration. dataset: name and number of images as MLflow shows them.
    """

    run: StoredRun
    model_id: str
    metadata: Mapping[str, Any]
    config: Mapping[str, Any]
    dataset: Mapping[str, str]

    @property
    def log_loss(self) -> float:
        """On the validation images."""
        return self.run.metrics[VALIDATION]


def best_run(store: Store, protection: str, *, data_sha256: str, source_sha256: str) -> Candidate | None:
    """Return the run of a protection with the lowest log loss on the validation images; None when there is none.

    Args:
        data_sha256: of the prepared images and their split; runs on other data are not looked at.
        source_sha256: of what the trainer reads in this checkout; a network cannot be served without what it was trained on.

    Raises:
        TrackingError: the store cannot be read.
    """
    with store.explained("read runs from"):
        oldest_first = reversed(finished_runs(store, protection=protection, data_sha256=data_sha256))
        runs = [run for run in oldest_first if math.isfinite(_log_loss(run))]
        for run in sorted(runs, key=_log_loss):
            model_id = store.logged_model_id(run.run_id)
            if model_id is not None and (metadata := _metadata(store, model_id)).get("source_sha256") == source_sha256:
                return _candidate(store, run, model_id, metadata)
    return None


def _log_loss(run: StoredRun) -> float:
    return run.metrics.get(VALIDATION, math.inf)


def _candidate(store: Store, run: StoredRun, model_id: str, metadata: dict[str, Any]) -> Candidate:
    with tempfile.TemporaryDirectory() as folder:
        config = yaml.safe_load(Path(store.client.download_artifacts(run.run_id, "config.yaml", folder)).read_text())
    inputs: Any = store.client.get_run(run.run_id).inputs
    data = inputs.dataset_inputs[0].dataset  # every run of ours has one
    return Candidate(run, model_id, metadata, config, {"name": data.name, "profile": data.profile or "{}"})


def _metadata(store: Store, model_id: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = download(store, f"{store.client.get_logged_model(model_id).artifact_location}/MLmodel", folder)
        return yaml.safe_load(path.read_text()).get("metadata") or {}


def fetch_keras_file(store: Store, candidate: Candidate, folder: Path) -> Path:
    """Download the .keras file of a run's model into `folder`, and the arrays beside it, and return its path."""
    with store.explained("read a model from"):
        location = store.client.get_logged_model(candidate.model_id).artifact_location
        return download(store, f"{location}/data", str(folder)) / "model.keras"


def download(store: Store, uri: str, folder: str) -> Path:
    """Download an artifact of the store, a file or a folder, into `folder` and return its path."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=store.uri))
