"""What the MLflow UI opens on: its addresses, the experiment's description, and the command that serves it.

An experiment opens on an overview for language models, whatever its kind, unless its address says `workflowType=machine_learning`: no
setting of MLflow 3.17 does. tests/tracking/test_ui.py holds it in a browser.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from ppdl.tracking.runs.redact import guard, shorten
from ppdl.tracking.runs.spec import NOTE
from ppdl.tracking.store import Store

MAX_NOTE = 20_000  # characters of an experiment's tag (mlflow.utils.validation)


def page_address(server: str, experiment_id: str) -> str:
    """Return the address of an experiment's run list."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def run_address(experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page, relative to the server."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def describe_experiment(store: Store, markdown: str) -> None:
    """Replace the experiment's description, with its date: results that DVC's cache brings back later do not come here."""
    written = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    markdown += (
        f"\n\nWritten by the stage `evaluate` on {written}. Results that DVC brought back since from its cache are on the runs' own pages."
    )
    with store.explained("describe the experiment in"):
        store.client.set_experiment_tag(store.experiment_id, NOTE, shorten(guard(markdown, "description"), MAX_NOTE))


def server_command(port: int) -> list[str]:
    """Return the command that serves the UI to this machine; `server_environment` tells it the database."""
    hosts = f"127.0.0.1:{port},localhost:{port}"  # said, or MLflow advises to open it to other machines
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--allowed-hosts",
        hosts,
        "--uvicorn-opts",
        "--log-level warning",  # a line for each file that the browser asks for would push the address off
    ]


def server_environment(store: Store, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of `server_command`: the database, whose URI may hold a password, so that no process list shows it.

    Jobs are background work of MLflow on language models, for which more processes would stand by. A warning that MLflow 3.17 uses what
    Starlette will drop is nothing that its reader can mend.
    """
    quiet = ",".join(filter(None, [environment.get("PYTHONWARNINGS"), "ignore:starlette.middleware.wsgi"]))
    own = {"MLFLOW_BACKEND_STORE_URI": store.uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": quiet}
    return {**environment, **own}
