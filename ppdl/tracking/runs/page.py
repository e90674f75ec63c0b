"""What the MLflow UI opens on: the run list with the columns and charts that answer the question, and the experiment's description.

No setting of MLflow 3.17 chooses the first page, so its address does: `workflowType=machine_learning` opens the run list where an
experiment otherwise opens on an overview for language models, whatever its kind, and `viewStateShareKey=ID` applies the view that is
saved in the experiment's tag `mlflow.sharedViewState.ID` and stands in the UI's menu Views. Source: MLflow's
server/js/src/experiment-tracking, useSharedExperimentViewState.ts, savedViewEnvelope.ts; tests/tracking/test_ui.py holds it in a browser.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from ppdl.tracking.runs.redact import guard, shorten
from ppdl.tracking.runs.spec import NOTE
from ppdl.tracking.store import Store, now_ms

VIEW, VIEW_NAME = "ppdl", "Utility, leakage, cost"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
MAX_NOTE = 20_000  # characters of an experiment's tag (mlflow.utils.validation)
ANSWERS = ("answer/accuracy", "answer/attacker_ssim", "answer/bytes_per_pixel", "answer/seconds_to_protect")
# What MLflow calls a column, and its width in pixels: its own 100 cut the names of metrics short.
COLUMNS = {
    "attributes.`Run Name`": 150,
    "runDateAndNestInfo": 145,
    **dict(zip((f"metrics.`{name}`" for name in ANSWERS), (130, 165, 180, 200), strict=True)),
    "tags.`utility`": 140,
    "tags.`leakage`": 100,
    "metrics.`val/accuracy`": 110,
    "attributes.`Dataset`": 200,
    "duration": 90,
    "tags.`sweep`": 160,
}


def page_address(server: str, experiment_id: str, *, charts: bool = False) -> str:
    """Return the address of an experiment's run list with our view of it, or of the same as charts."""
    query = {"workflowType": "machine_learning", "viewStateShareKey": VIEW} | ({"compareRunsMode": "CHART"} if charts else {})
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def run_address(experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page, relative to the server."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def describe_experiment(store: Store, markdown: str | None = None) -> None:
    """Save our view in the experiment, and replace its description unless it is None."""
    with store.explained("describe the experiment in"):
        store.client.set_experiment_tag(store.experiment_id, VIEW_TAG, saved_view())
        if markdown is not None:
            note = shorten(guard(markdown, "description"), MAX_NOTE)
            store.client.set_experiment_tag(store.experiment_id, NOTE, note)


def saved_view() -> str:
    """Return the value of the tag that holds our view."""
    section = {"uuid": "answer", "name": "answer", "display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    leakage, utility = ({"key": f"answer/{name}", "type": "METRIC"} for name in ("attacker_ssim", "accuracy"))
    state = {
        "selectedColumns": [column for column in COLUMNS if "`" in column],
        "columnOrder": list(COLUMNS),
        "columnWidths": COLUMNS,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "compareRunSections": [section],
        "compareRunCharts": [*(_chart("BAR", metricKey=name) for name in ANSWERS), _chart("SCATTER", xaxis=leakage, yaxis=utility)],
    }
    return json.dumps({"name": VIEW_NAME, "createdAt": now_ms(), "state": json.dumps(state)})


def _chart(kind: str, **settings: Any) -> dict[str, Any]:
    common = {"metricSectionId": "answer", "runsCountToCompare": 20, "deleted": False, "isGenerated": False}
    return {"uuid": f"answer-{kind}-{settings.get('metricKey', '')}", "type": kind, **common, **settings}


def server_command(port: int) -> list[str]:
    """Return the command that serves the UI to this machine; `server_environment` tells it the database."""
    return [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def server_environment(store: Store, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of `server_command`: the database, whose URI may hold a password, so that no process list shows it.

    Jobs are background work of MLflow on language models, for which more processes would stand by.
    """
    return {**environment, "MLFLOW_BACKEND_STORE_URI": store.uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
