"""An MLflow store for each test, copied rather than made."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.tracking.runs.sweep import OBJECTIVE
from ppdl.tracking.store import Point, now_ms, open_store

FOLDER = "multirun/2026-01-31/12-00-00"


@pytest.fixture(autouse=True)
def empty_store(tmp_path, migrated_db):
    """Put an empty store where `open_store(tmp_path, ...)` finds it."""
    shutil.copy(migrated_db, tmp_path / "mlflow.db")


@pytest.fixture
def built(tmp_path, monkeypatch):
    """The digest of the data that the checkout has built: three images, one of them for testing."""
    monkeypatch.setattr("ppdl.config.checkout", lambda: tmp_path)
    folder = tmp_path / "data/prepared"
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", np.zeros((3, 4, 4), np.uint8))
    rows = ["a.png,x,0,0,-1,train", "b.png,y,1,1,-1,validation", "c.png,x,0,2,-1,test"]
    (folder / "index.csv").write_text("\n".join(["path,class_name,label,group,fold,split", *rows, ""]))
    meta = {"class_names": ["x", "y"], "images_sha256": "", "num_images": 3, "prepared_px": 4, "params": {}}
    (folder / "meta.json").write_text(json.dumps(meta))
    return load_prepared(folder).sha256


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
