"""Read runs back: what was evaluated, with its parameters and metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ppdl.tracking.store import Store


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
    found, token = [], None
    with store.explained("read runs from"):
        while True:
            page = store.client.search_runs(
                [store.experiment_id], "attributes.status = 'FINISHED'", order_by=["attributes.start_time DESC"], page_token=token
            )
            found += [run for run in page if wanted <= run.data.metrics.keys()]
            if not (token := page.token):
                break
    return [EvaluatedRun(run.info.run_name, run.data.params, run.data.metrics, run.data.tags) for run in found]
