"""Read runs back from the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ppdl.tracking.store import Store

TRIAL = ", trial "  # between the name of a run and the number of its job in a sweep, in MLflow's list


@dataclass(frozen=True)
class StoredRun:
    """Hold one run as the store has it.

    Attributes:
        run_id: in this store, and in run.json beside the run's model.
        name: as RunSpec has it.
        seconds: from start to end; None while it runs.
    """

    run_id: str
    name: str
    status: str
    seconds: float | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


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
                found.append(StoredRun(info.run_id, name, info.status, seconds, data.params, data.metrics, data.tags))
            if not (token := page.token):
                return found
