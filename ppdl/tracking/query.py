"""Read runs back: what was evaluated, with its parameters and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppdl.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class EvaluatedRun:
    """Hold one finished run: its name, parameters, metrics and tags as the store has them."""

    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def evaluated_runs(store: Store, metrics: Iterable[str]) -> list[EvaluatedRun]:
    """Return the finished runs that have all of `metrics`, newest first.

    Raises:
        TrackingError: the store cannot be read.
    """
    wanted = set(metrics)
    with store.explained("read runs from"):
        found = [run for run in finished_runs(store) if wanted <= run.data.metrics.keys()]
    return [EvaluatedRun(run.info.run_name, run.data.params, run.data.metrics, run.data.tags) for run in found]


def finished_runs(store: Store, **tags: str) -> Iterator[Run]:
    """Return the finished runs of the store's experiment that have these tags, newest first. Failures of the store are the caller's."""
    return found_runs(
        store, " and ".join(["attributes.status = 'FINISHED'", *(f"tags.{name} = '{value}'" for name, value in tags.items())])
    )


def found_runs(store: Store, query: str) -> Iterator[Run]:
    """Yield the runs of the store's experiment that MLflow's `query` finds, newest first. Failures of the store are the caller's."""
    token = None
    while True:
        page = store.client.search_runs([store.experiment_id], query, order_by=["attributes.start_time DESC"], page_token=token)
        yield from page
        if not (token := page.token):
            return
