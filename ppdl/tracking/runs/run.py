"""One training run: started before the first epoch, ended with the status that it deserves.

Before training, a store that cannot be used stops the stage. Once training runs, hours must not be lost to a store that
has gone: what cannot be logged is warned about, metrics are sent again with the next epoch, and run.json keeps them for
`ppdl model restore-runs`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppdl.tracking.failures import ENV, store_failures, without_password
from ppdl.tracking.query import TRIAL
from ppdl.tracking.runs.model import model_record
from ppdl.tracking.runs.names import epoch_metrics, section_metrics
from ppdl.tracking.runs.provenance import PROCESS
from ppdl.tracking.runs.record import EpochRecord, RunRecord
from ppdl.tracking.runs.redact import MAX_NAME, redact, shorten, valid_name
from ppdl.tracking.runs.signals import Killed, signals_raise
from ppdl.tracking.runs.spec import RunSpec
from ppdl.tracking.runs.write import create_run, end_run, log_description, log_model, mark_dead_runs, points_of
from ppdl.tracking.store import Point, Store, now_ms, open_store

if TYPE_CHECKING:
    import keras
    import matplotlib.figure
    import pandas as pd

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def start_training_run(spec: RunSpec, *, store_root: Path, project: Path, experiment: str) -> Iterator[TrainingRun]:
    """Run the body inside a new MLflow run.

    The run ends as FINISHED, as FAILED when the body raises, and as KILLED on Ctrl-C, SIGTERM or SIGHUP. Runs of this
    machine whose process has gone (kill -9, power cut) are marked KILLED first.

    It is MLflow's active run meanwhile, so that `mlflow.log_metric` in the body, and MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true, go to it.

    Args:
        store_root: folder of the default store, see `open_store`.
        project: folder of git's and DVC's files; a copy below .dvc/tmp/exps when DVC queues.

    Raises:
        TrackingError: the store cannot be used, or the spec holds what must not be logged.

    Cost: 1.7 s, most of it the import of mlflow; 1.5 s more for the first run of a new store.
    """
    config, tags = redact(spec.config), spec.tags(project)
    store = open_store(store_root, experiment)
    with signals_raise():
        with store.explained("start a run in"):
            mark_dead_runs(store)
            run_id = create_run(store, _shown_name(spec), tags, start_ms=now_ms())
        run = TrainingRun(store, run_id, spec, config, tags)
        try:
            with store.explained("describe a run in"):
                log_description(store, run_id, config, spec.protection, spec.name, spec.dataset)
            with _active(store, run_id):
                yield run
        except BaseException as error:
            run._end("KILLED" if isinstance(error, Killed | KeyboardInterrupt) else "FAILED", error)
            raise
        run._end("FINISHED")


def _shown_name(spec: RunSpec) -> str:
    """Return the run's name in MLflow's list, a trial's with its number and its sweep's folder."""
    if spec.job is None:
        return spec.name
    folder = f" of {spec.sweep.removeprefix('multirun/')}" if spec.sweep else ""
    return shorten(f"{spec.name}{TRIAL}{spec.job}{folder}", MAX_NAME)


@contextlib.contextmanager
def _active(store: Store, run_id: str) -> Iterator[None]:
    """Make a run MLflow's active one: mlflow.log_* of a user's own classes, autologging and system metrics go to it.

    MLflow keeps the store in a global and in the environment, which are as before afterwards.
    """
    import mlflow
    from mlflow.tracking import fluent

    before = os.environ.get(ENV)
    mlflow.set_tracking_uri(store.uri)
    try:
        with store.explained("start a run in"):
            mlflow.start_run(run_id=run_id, nested=True)  # in a run of the caller's own, too
        yield
    finally:
        try:
            active = mlflow.active_run()
            if active is not None and active.info.run_id == run_id:
                if store.is_reachable():
                    mlflow.end_run()
                else:
                    fluent._active_run_stack.get().pop()  # type: ignore[no-untyped-call]  # end_run would wait for the store
        except store_failures() as error:
            logger.debug("MLflow run %s: %s", run_id, error)
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None unsets it


class TrainingRun:
    """Handle of a run that is under way; made by `start_training_run`."""

    def __init__(self, store: Store, run_id: str, spec: RunSpec, config: dict[str, Any], tags: dict[str, str]) -> None:
        self.store, self.run_id, self.spec = store, run_id, spec
        self._record = RunRecord(run_id, store.experiment, spec.name, now_ms(), 0, config, tags, spec.dataset, None, [], {})
        self._pending: list[Point] = []

    def log_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Log one epoch's metrics under Keras' names (`loss`, `val_loss`); see `names` for what they become."""
        self._add([EpochRecord(epoch, now_ms(), epoch_metrics(metrics))])

    def log_history(self, history: pd.DataFrame) -> None:
        """Log the epochs that `log_epoch` has not seen: those trained before the run was killed and resumed.

        Args:
            history: one row an epoch, with a column `epoch`.
        """
        seen = {record.epoch for record in self._record.history}
        rows = [row for row in history.to_dict("records") if row["epoch"] not in seen]
        self._add([EpochRecord(int(row["epoch"]), now_ms(), epoch_metrics(row)) for row in rows])

    def log_summary(self, metrics: Mapping[str, Any]) -> None:
        """Log what a training has once, such as `best_epoch` and `seconds`, under `fit/`."""
        numbers = section_metrics("fit", metrics)
        self._record.metrics |= numbers
        self._send([Point(name, value, now_ms(), 0) for name, value in numbers.items()])

    def log_figure(self, name: str, figure: matplotlib.figure.Figure) -> None:
        """Log a figure as figures/NAME.png."""
        path = f"figures/{valid_name(name)}.png"
        self._attempt(f"figure {name}", lambda: self.store.client.log_figure(self.run_id, figure, path))

    def log_model(
        self,
        path: Path,
        model: keras.Model,
        *,
        num_symbols: int,
        step: int,
        class_names: Sequence[str],
        calibration: Mapping[str, Any] | None = None,
    ) -> None:
        """Log the file of a trained model, and what it expects of its input.

        Args:
            path: what `model.save` wrote; stored byte for byte.
            num_symbols: the model's inputs are integers in [0, num_symbols).
            step: epoch whose weights the file holds.
            class_names: of the logits, in their order.
            calibration: how logits become probabilities, as calibration.json has it.

        Raises:
            TrackingError: `path` is no Keras file.
        """
        metadata = {
            "class_names": list(class_names),
            "protection": self.spec.protection,
            "view": self.spec.view,
            "key_fingerprint": self.spec.key_fingerprint,
            "source_sha256": self.spec.dataset.sha256,
            "prepared_px": self._record.config.get("prepared_px"),
            "input_px": self._record.config.get("input_px"),
        }
        if calibration is not None:
            metadata["calibration"] = dict(calibration)
        recorded = self._record.model = model_record(model, num_symbols=num_symbols, step=step, metadata=metadata)
        best = [point for point in points_of(self._record.history) if point.step == step]
        self._attempt("model", lambda: log_model(self.store, self.run_id, path, recorded, best))

    def mark(self, tag: str) -> None:
        """Set a tag to true."""
        self._record.tags[tag] = "true"
        self._attempt(f"tag {tag}", lambda: self.store.client.set_tag(self.run_id, tag, "true"))

    def write_record(self, path: Path) -> None:
        """Write run.json, from which `restore_runs` rebuilds this run. Call it last."""
        tags = {name: value for name, value in self._record.tags.items() if name != PROCESS}
        history = sorted(self._record.history, key=lambda record: record.epoch)
        replace(self._record, end_ms=now_ms(), tags=tags, history=history).write(path)

    def _add(self, records: list[EpochRecord]) -> None:
        self._record.history += records
        self._send(points_of(records))

    def _send(self, points: list[Point]) -> None:
        self._pending += points

        def send() -> None:
            self.store.log_points(self.run_id, self._pending)
            self._pending = []

        self._attempt(f"{len(self._pending)} values of metrics (sent again with the next)", send)

    def _end(self, status: str, error: BaseException | None = None) -> None:
        if self._pending:
            self._send([])
        self._attempt(f"status {status}", lambda: end_run(self.store, self.run_id, status, error=error))

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        try:
            if not self.store.is_reachable():
                raise ConnectionError("the server does not answer")
            action()
        except store_failures() as error:
            reason = " ".join(str(error).split())[:200]
            logger.warning(
                "MLflow run %s: not logged: %s (%s). Training goes on; `ppdl model restore-runs` adds later what run.json holds.",
                self.run_id,
                what,
                without_password(reason),
            )
