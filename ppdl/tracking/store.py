"""The MLflow store: where it is, setting it up once, and its failures in words.

$MLFLOW_TRACKING_URI wins; else runs go to sqlite at <store root>/mlflow.db with artifacts in <store root>/mlartifacts.
$MLFLOW_EXPERIMENT_NAME wins over the name that the configuration has. The client is used throughout, never MLflow's fluent functions:
those keep an active run and a tracking URI as globals (`mlflow.set_tracking_uri` even exports it to the environment), and two stores in
one process then mix. `start_training_run` alone makes its run the active one, for a user's own code.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import filelock

from ppdl.errors import TrackingError
from ppdl.tracking.database import database_file, ensure_whole
from ppdl.tracking.failures import ENV, explained, is_http, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_NAME = "mlflow.db.lock"
_LOCK_TIMEOUT_S = 120  # a cold set-up takes 2 s; a sweep starts a few dozen at most
_PROBE_TIMEOUT_S = 5


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    timestamp_ms: int
    step: int


@dataclass(frozen=True)
class Store:
    """An open store and one experiment of it.

    Attributes:
        uri: as MLflow takes it. May hold a password: show `shown` instead.
        local_dir: folder of the database and its lock; None when a server keeps them.
    """

    uri: str
    experiment: str
    experiment_id: str
    local_dir: Path | None
    client: MlflowClient = field(repr=False)

    @property
    def shown(self) -> str:
        """The URI without a password."""
        return without_password(self.uri)

    def lock(self) -> contextlib.AbstractContextManager[Any]:
        """Return a lock among the processes that share a database; nothing to lock when a server stands before it."""
        return _lock(self.local_dir)

    def explained(self, doing: str) -> contextlib.AbstractContextManager[None]:
        """Return a context that turns the store's failures into a TrackingError that says what to do."""
        return explained(doing, self.uri)

    def is_reachable(self) -> bool:
        """Tell within seconds whether a tracking server answers; a database always counts as reachable."""
        return not is_http(self.uri) or _probe(self.uri) is None

    def takes_pictures(self, log_report: bool | str) -> bool:
        """Tell whether pictures of the images may go into the store; where they may not, or leave this machine, say so in a line.

        Args:
            log_report: true, false, or `auto`: where the files of runs lie on this machine.
        """
        place = self.client.get_experiment(self.experiment_id).artifact_location
        here = is_here(place, self.uri)
        if log_report == "auto" and not here:
            print(
                f"report.html and Grad-CAM show images, and {without_password(place)} is not on this machine: they stay out of MLflow at "
                f"{self.shown}; tracking.log_report=true puts them there"
            )
        elif log_report is True and not here:
            print(f"report.html and Grad-CAM, which show images, leave this machine for {without_password(place)} (MLflow at {self.shown})")
        return log_report is True or (log_report == "auto" and here)

    def log_points(self, run_id: str, points: Iterable[Point], model_id: str | None = None) -> None:
        """Write metrics in one transaction. Writing the same points again changes nothing."""
        from mlflow.entities import Metric

        batch = [Metric(p.name, p.value, p.timestamp_ms, p.step, model_id=model_id, run_id=run_id) for p in points]
        self.client.log_batch(run_id, metrics=batch)

    def logged_model_id(self, run_id: str) -> str | None:
        """Return the id of the model that a run logged, None when it logged none."""
        outputs = self.client.get_run(run_id).outputs
        models = outputs.model_outputs if outputs else []
        return models[-1].model_id if models else None


def open_store(store_root: Path, experiment: str) -> Store:
    """Open the store, set it up when it is new, and find or make the experiment.

    Processes that start at once wait for each other here: MLflow makes the tables of a new sqlite database without a lock,
    and all but the first would fail.

    Args:
        store_root: folder of mlflow.db and mlartifacts/ when $MLFLOW_TRACKING_URI is not set: the user's checkout.
        experiment: name of the experiment, unless $MLFLOW_EXPERIMENT_NAME has one.

    Raises:
        TrackingError: unreachable server, read-only or damaged store, database of another MLflow version or program, or a
            deleted experiment of that name.

    Cost: 1.1 s to import mlflow, 0.3 s to open a database, 1.5 s more to make a new one.
    """
    # Set before the import, which reads it. The retries (MLflow's own default waits 4 minutes) stay short enough to
    # notice a server that has gone.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
    uri = os.environ.get(ENV) or f"sqlite:///{Path(store_root).resolve() / 'mlflow.db'}"
    local_dir = _local_dir(uri, Path(store_root).resolve())
    with explained("open", uri):
        if is_http(uri) and (failure := _probe(uri)):
            raise failure
        if local_dir is not None:
            local_dir.mkdir(parents=True, exist_ok=True)
        with _lock(local_dir):
            from mlflow import MlflowClient

            # A cold start would print 60 lines of migrations, and a failure its traceback before our message.
            logging.getLogger("alembic").setLevel(logging.WARNING)
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
            if file := database_file(uri):
                ensure_whole(file)
            client = MlflowClient(uri)
            experiment_id = _experiment_id(client, uri, experiment, local_dir)
    return Store(uri, experiment, experiment_id, local_dir, client)


def is_here(artifact_location: str, uri: str) -> bool:
    """Tell whether the files of an experiment lie on this machine: in a folder, or behind a tracking server on loopback."""
    place = urlsplit(artifact_location)
    if place.scheme in ("", "file"):
        return place.netloc in ("", "localhost")
    if place.scheme == "mlflow-artifacts" and not place.netloc:  # the tracking server keeps them
        place = urlsplit(uri)
    if place.scheme not in ("http", "https", "mlflow-artifacts"):
        return False
    try:
        return ipaddress.ip_address(place.hostname or "").is_loopback
    except ValueError:
        return place.hostname == "localhost"


def now_ms() -> int:
    """Return the time as MLflow counts it, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _experiment_id(client: MlflowClient, uri: str, name: str, local_dir: Path | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = None if local_dir is None else (local_dir / "mlartifacts").as_uri()
        # Without this tag the UI asks each user whether the experiment is about language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return client.create_experiment(name, artifact_location=location, tags=tags)
        except MlflowException as error:
            # It exists already: another client of a server was first.
            found = client.get_experiment_by_name(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the MLflow experiment {name!r} in {without_password(uri)} has been deleted. Take it back with "
            f"`{ENV}='{without_password(uri)}' mlflow experiments restore --experiment-id {found.experiment_id}`, "
            "or choose another name: tracking.experiment=NAME"
        )
    return found.experiment_id


def _local_dir(uri: str, store_root: Path) -> Path | None:
    if is_http(uri) or uri.startswith("databricks"):
        return None
    if uri.startswith("sqlite:///"):  # artifacts lie beside the database, wherever that is
        return Path(uri.removeprefix("sqlite:///").removeprefix("file:").split("?")[0]).resolve().parent
    return store_root


def _probe(uri: str) -> Exception | None:
    import requests

    try:
        requests.get(uri.rstrip("/") + "/health", timeout=_PROBE_TIMEOUT_S)  # 401 also means that it is there
    except requests.RequestException as error:
        return error
    return None


def _lock(local_dir: Path | None) -> contextlib.AbstractContextManager[Any]:
    if local_dir is None:
        return contextlib.nullcontext()
    return filelock.FileLock(local_dir / LOCK_NAME, timeout=_LOCK_TIMEOUT_S)
