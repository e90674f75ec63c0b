"""Read runs back from the store."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppdl.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

TRIAL = ", trial "  # between the name of a run and the number of its job in a sweep, in MLflow's list


@dataclass(frozen=True)
class StoredRun:
    """Hold one run as the store has it.

    Attributes:
        run_id: in this store, and in run.json beside the run's model.
        name: as RunSpec has it.
        seconds: from start to end; None while it runs.
        dataset: name and number of images, such as "phantom, 1000 images"; empty where the run has none.
    """

    run_id: str
    name: str
    status: str
    seconds: float | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    dataset: str


def on_data(runs: Sequence[StoredRun], data_sha256: str | None) -> tuple[list[StoredRun], str]:
    """Return the runs on this data, whose figures compare, and in words which others are left out; no words where all are on it.

    Args:
        data_sha256: of the prepared images and their split, as RunSpec has it.
    """
    others = Counter(run.dataset or "unnamed data" for run in runs if run.tags.get("data_sha256") != data_sha256)
    names = "; ".join(f"{name} ({number})" for name, number in others.items())
    number = others.total()
    words = f"{number} {'run' if number == 1 else 'runs'} of other images or another split left out: {names}" if others else ""
    return [run for run in runs if run.tags.get("data_sha256") == data_sha256], words


def finished_runs(store: Store, **tags: str) -> list[StoredRun]:
    """Return the finished runs of the store's experiment that have these tags, newest first. Raises: as `found_runs`."""
    return found_runs(
        store, " and ".join(["attributes.status = 'FINISHED'", *(f"tags.{name} = '{value}'" for name, value in tags.items())])
    )


def found_runs(store: Store, query: str) -> list[StoredRun]:
    """Return the runs of the store's experiment that MLflow's `query` finds, newest first.

    Raises:
        TrackingError: the store cannot be read.
    """
    found, token = [], None
    with store.explained("read runs from"):
        while True:
            page = store.client.search_runs([store.experiment_id], query, order_by=["attributes.start_time DESC"], page_token=token)
            for run in page:
                info, data = run.info, run.data
                seconds = (info.end_time - info.start_time) / 1000 if info.end_time else None
                name = info.run_name.partition(TRIAL)[0]
                found.append(StoredRun(info.run_id, name, info.status, seconds, data.params, data.metrics, data.tags, _dataset(run)))
            if not (token := page.token):
                return found


def _dataset(run: Run) -> str:
    """Return what `log_description` named the data, without the side of a run's images."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return next((re.sub(r", \d+ px$", "", given.dataset.name) for given in inputs), "")
