"""A real sqlite store for each test, copied from one that was migrated once, and a run to put into it."""

import shutil

import pytest

from ppdl.tracking import DatasetRecord, RunSpec, start_training_run

CONFIG = {
    "seed": 7,
    "model": {"alpha": 0.35, "weights": None, "fine_tune_depth": None},
    "training": {"epochs": 2, "augmentation": {"flip": True}},
    "keygen": {"key_bits": 3072, "private_dir": "/media/usb/hospital-keys"},
    "dataset": {"classes": ["COVID", "Normal"]},
}


@pytest.fixture
def store_root(tmp_path, migrated_db, monkeypatch):
    """Folder of an empty store that `open_store` finds by default."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copy(migrated_db, root / "mlflow.db")
    return root


@pytest.fixture
def make_spec():
    """Build a RunSpec; keyword arguments replace what it would hold."""

    def make(**changes):
        arguments = {
            "name": "deterministic",
            "stage": "stages.train_encrypted",
            "config": CONFIG,
            "protection": "deterministic",
            "view": "spectral",
            "confidential": False,
            "key_fingerprint": "ab" * 32,
            "dataset": DatasetRecord("phantom", "cd" * 32, "data/prepared", {"train": 70, "validation": 10, "test": 20}),
            "inputs": ("data/prepared",),
            "description": "**Not confidential**: equal pixels give equal ciphertexts.",
        }
        return RunSpec(**(arguments | changes))

    return make


@pytest.fixture
def start(store_root, make_spec):
    """Start a run in the store of the test; keyword arguments go to the RunSpec."""

    def begin(*, root=store_root, project=store_root, **changes):
        return start_training_run(make_spec(**changes), store_root=root, project=project, experiment="ppdl")

    return begin


@pytest.fixture
def finished(store_root, start):
    """Return the run.json of a finished run of two epochs, without a model."""
    with start() as run:
        run.log_epoch(0, {"loss": 1.5, "accuracy": 0.4, "val_loss": 1.25, "val_accuracy": 0.5})
        run.log_epoch(1, {"loss": 1.0, "accuracy": 0.6, "val_loss": float("nan"), "val_accuracy": 0.625})
        run.log_summary({"best_epoch": 1, "seconds": 12.5})
        path = store_root / "models" / "deterministic" / "spectral" / "run.json"
        run.write_record(path)
    return path
