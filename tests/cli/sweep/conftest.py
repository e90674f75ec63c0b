"""An MLflow store for each test, copied rather than made."""

from __future__ import annotations

import shutil

import pytest

from ppdl.tracking.runs.sweep import OBJECTIVE
from ppdl.tracking.store import Point, now_ms, open_store

FOLDER = "multirun/2026-01-31/12-00-00"


@pytest.fixture(autouse=True)
def empty_store(tmp_path, migrated_db):
    """Put an empty store where `open_store(tmp_path, ...)` finds it."""
    shutil.copy(migrated_db, tmp_path / "mlflow.db")


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """A store with the four trials of a sweep: 1 is the best, 2 was stopped, 3 diverged."""
    monkeypatch.setattr("ppdl.config.checkout", lambda: tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = open_store(tmp_path, "ppdl")
    trials = [
        (0.9, "0.001", {}),
        (0.4, "0.0123456789", {}),
        (0.8, "0.1", {"pruned": "true"}),
        (None, "50.0", {"failure": "DivergedError: x"}),
    ]
    for job, (objective, rate, tags) in enumerate(trials):
        tags |= {"sweep": FOLDER, "stage": "stages.train_plain", "job": str(job)}
        made = store.client.create_run(store.experiment_id, start_time=job + 1, run_name="plain", tags=tags)
        for name, value in {"training.learning_rate": rate, "model.dropout": "0.2"}.items():
            store.client.log_param(made.info.run_id, name, value)
        if objective is not None:
            metrics = {OBJECTIVE: objective, "fit/best_val_accuracy": 0.875, "fit/num_epochs": 32, "fit/seconds": 61.0}
            store.log_points(made.info.run_id, [Point(key, value, now_ms(), 0) for key, value in metrics.items()])
        store.client.set_terminated(made.info.run_id, "FINISHED" if objective is not None else "FAILED")
    (tmp_path / FOLDER).mkdir(parents=True)
    return store
