"""After training: test results added to finished runs, and runs rebuilt from run.json where the store lacks them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppdl.errors import TrackingError
from ppdl.tracking.runs.model import MODEL_FILE
from ppdl.tracking.runs.names import numbers_and_words, section_metrics
from ppdl.tracking.runs.provenance import PROCESS, process_is_alive
from ppdl.tracking.runs.record import RunRecord, read_record
from ppdl.tracking.runs.redact import MAX_TAG, guard, shorten, valid_name
from ppdl.tracking.runs.spec import NOTE
from ppdl.tracking.runs.write import create_run, end_run, log_description, log_model, points_of
from ppdl.tracking.store import Point, Store, now_ms

if TYPE_CHECKING:
    import matplotlib.figure
    from mlflow.entities import Run

logger = logging.getLogger(__name__)
RUN_JSON = "run.json"
RESTORED_FROM = "restored_from"


@dataclass(frozen=True)
class RunState:
    """What `ensure_run` found or did.

    Attributes:
        path: of the run.json.
        run_id: in this store; another than in run.json when the run was rebuilt.
        outcome: "present", "restored" (rebuilt), "completed" (was left unfinished) or "undeleted".
    """

    path: Path
    name: str
    run_id: str
    outcome: str


def restore_runs(models_dir: Path, store: Store, *, test_metrics: Mapping[str, Mapping[str, Any]] | None = None) -> list[RunState]:
    """Rebuild the runs of all models below `models_dir` that the store lacks, and complete those left unfinished.

    Args:
        models_dir: folder of NAME/VIEW/run.json, as `dvc pull` brings it.
        test_metrics: by run name, for runs that are not finished in the store; evaluation adds them itself otherwise.

    Returns:
        One state for each run.json, sorted by path. A second call finds all of them present.

    Raises:
        TrackingError: no run.json at all, a damaged one, or a store that cannot be used.
    """
    paths = sorted(models_dir.rglob(RUN_JSON))
    if not paths:
        raise TrackingError(f"{models_dir} has no {RUN_JSON} at any depth: fetch the models with `dvc pull` first")
    states, metrics = [ensure_run(store, path) for path in paths], test_metrics or {}
    for state in states:
        if state.outcome != "present" and state.name in metrics:
            numbers, words = numbers_and_words(metrics[state.name])
            log_results(store, state.path, {"test": numbers}, tags=words)
    return states


def ensure_run(store: Store, run_json: Path) -> RunState:
    """Make sure that the run of a model is in the store and finished. See `restore_runs`."""
    record = read_record(run_json)
    with store.explained("restore a run in"), store.lock():
        run = _find(store, record)
        if run is None:
            tags = {**record.tags, RESTORED_FROM: record.run_id}
            run_id = create_run(store, record.name, tags, start_ms=record.start_ms)
            outcome = "restored"
        else:
            run_id, outcome = run.info.run_id, "present"
            if run.info.lifecycle_stage == "deleted":
                store.client.restore_run(run_id)
                outcome = "undeleted"
            if run.info.status == "FINISHED" or process_is_alive(run.data.tags.get(PROCESS, "")):
                return RunState(run_json, record.name, run_id, outcome)
            outcome = "completed"
        _write(store, run_id, record, run_json)
    logger.info("MLflow run %s (%s): %s from %s", run_id, record.name, outcome, run_json)
    return RunState(run_json, record.name, run_id, outcome)


def log_results(
    store: Store,
    run_json: Path,
    metrics: Mapping[str, Mapping[str, Any]],
    *,
    figures: Mapping[str, matplotlib.figure.Figure] | None = None,
    artifacts: Mapping[str, Path] | None = None,
    verdict: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Add results to the finished run of a model, which is rebuilt first when the store lacks it.

    The run is not started again: that would move its end and its status.

    Args:
        run_json: beside the model.
        metrics: by section of their names, see `names`: numbers, in nested mappings if need be; None (undefined) is left out.
        figures: by name, stored as figures/NAME.png.
        artifacts: files, by the folder of the run that they are stored in.
        verdict: markdown, put above the description that training gave the run.
        tags: set on the run.

    Returns:
        The run's id in this store.
    """
    numbers = {name: value for section, found in metrics.items() for name, value in section_metrics(section, found).items()}
    run_id = ensure_run(store, run_json).run_id
    with store.explained("add results to a run in"):
        known = store.client.get_run(run_id).data.metrics
        new = {k: v for k, v in numbers.items() if k not in known or not _same(known[k], v)}
        points = [Point(name, value, now_ms(), 0) for name, value in new.items()]
        store.log_points(run_id, points, store.logged_model_id(run_id))
        for name, figure in (figures or {}).items():
            store.client.log_figure(run_id, figure, f"figures/{valid_name(name)}.png")
        for folder, path in (artifacts or {}).items():
            store.client.log_artifact(run_id, str(path), folder)
        texts = dict(tags or {})
        if verdict is not None:
            texts[NOTE] = f"{verdict}\n\n{read_record(run_json).tags.get(NOTE, '')}".strip()
        for name, value in texts.items():
            store.client.set_tag(run_id, valid_name(name), shorten(guard(value, f"tag {name}"), MAX_TAG))
    return run_id


def _find(store: Store, record: RunRecord) -> Run | None:
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_run(record.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    query = f"tags.{RESTORED_FROM} = '{record.run_id}'"
    found = store.client.search_runs([store.experiment_id], query, ViewType.ALL, max_results=1)
    return found[0] if found else None


def _write(store: Store, run_id: str, record: RunRecord, run_json: Path) -> None:
    log_description(store, run_id, record.config, record.tags.get("protection", record.name), record.name, record.dataset)
    once = [Point(name, value, record.end_ms, 0) for name, value in record.metrics.items()]
    store.log_points(run_id, points_of(record.history) + once)
    path = run_json.parent / MODEL_FILE  # which may not have been pulled
    if record.model is not None and path.is_file() and store.logged_model_id(run_id) is None:
        best = [point for point in points_of(record.history) if point.step == record.model.step]
        log_model(store, run_id, path, record.model, best)
    end_run(store, run_id, "FINISHED", end_ms=record.end_ms)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
