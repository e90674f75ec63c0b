"""Writing a run into a store, piece by piece: used by a run that is under way and by one that is rebuilt.

Unless it says otherwise, a function may be called again with the same values and changes nothing then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ppdl.errors import TrackingError
from ppdl.tracking.runs.model import log_model_file
from ppdl.tracking.runs.provenance import PROCESS, process_is_alive
from ppdl.tracking.runs.record import DatasetRecord, EpochRecord, ModelRecord
from ppdl.tracking.runs.redact import MAX_TAG, flatten, guard, shorten, used_by
from ppdl.tracking.store import Point, Store

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput


def create_run(store: Store, name: str, tags: Mapping[str, str], *, start_ms: int) -> str:
    """Create a run with its tags in one transaction and return its id. Each call makes another run."""
    run = store.client.create_run(store.experiment_id, start_time=start_ms, tags=dict(tags), run_name=name)
    return run.info.run_id


def log_description(store: Store, run_id: str, config: Mapping[str, Any], branch: str, run: str, dataset: DatasetRecord) -> None:
    """Log a redacted config as config.yaml, what of it decides a run of a branch as parameters, and the dataset."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    store.client.log_batch(run_id, params=[Param(name, value) for name, value in flatten(used_by(config, branch, run)).items()])
    size = [f"{config['input_px']} px"] if "input_px" in config else []  # the list of runs has a column for it: a trial from the whole
    data = Dataset(
        name=", ".join([dataset.name, f"{sum(dataset.num_images.values())} images", *size]),
        digest=dataset.sha256[:32],  # MLflow takes at most 36 characters
        source_type="local",
        source=json.dumps({"uri": dataset.path}),
        profile=json.dumps({f"num_{split}": num for split, num in dataset.num_images.items()}),
    )
    _log_inputs(store, run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
    store.client.log_text(run_id, yaml.safe_dump(dict(config), sort_keys=False), "config.yaml")


def _log_inputs(store: Store, run_id: str, datasets: list[DatasetInput]) -> None:
    """Log what a run reads, once more if another run of the same data started at the same time.

    MLflow (3.17) looks whether it has a dataset and then adds it; a run that comes in between makes the adding fail. By
    then the dataset is there, and the second time it is found.
    """
    from mlflow.exceptions import MlflowException

    try:
        store.client.log_inputs(run_id, datasets=datasets)
    except MlflowException as error:
        if not re.search("unique|duplicate", str(error), re.IGNORECASE):  # as sqlite and PostgreSQL, and as MySQL say it
            raise
        store.client.log_inputs(run_id, datasets=datasets)


def points_of(history: Iterable[EpochRecord]) -> list[Point]:
    """Return the metrics of some epochs, one point for each."""
    return [Point(name, value, e.timestamp_ms, e.epoch) for e in history for name, value in e.metrics.items()]


def log_model(store: Store, run_id: str, path: Path, model: ModelRecord, best: list[Point]) -> None:
    """Log a model file, and on its own page the metrics `best` of the epoch that it is of.

    Not to be called twice: each call makes another model.
    """
    store.log_points(run_id, best, log_model_file(store, run_id, path, model))


def end_run(store: Store, run_id: str, status: str, *, error: BaseException | None = None, end_ms: int | None = None) -> None:
    """Set a run's final status: FINISHED, FAILED or KILLED, with what went wrong in the tag `failure`."""
    if error is not None:
        store.client.set_tag(run_id, "failure", _failure_text(error))
    store.client.set_terminated(run_id, status, end_time=end_ms)


def mark_dead_runs(store: Store) -> None:
    """Mark as KILLED the unfinished runs of this machine whose process has gone (kill -9, out of memory, power cut)."""
    for run in store.client.search_runs([store.experiment_id], "attributes.status = 'RUNNING'"):
        if process_is_alive(run.data.tags.get(PROCESS, "")) is False:
            store.client.set_tag(run.info.run_id, "failure", "the process ended without a word")
            store.client.set_terminated(run.info.run_id, "KILLED")


def _failure_text(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        return shorten(guard(f"{kind}: {error}", "failure"), MAX_TAG)
    except TrackingError:
        return kind
