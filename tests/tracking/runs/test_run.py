import base64
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException

from ppdl.errors import TrackingError
from ppdl.tracking import open_store
from ppdl.tracking.query import finished_runs

PROJECT = Path(__file__).resolve().parents[3]


def read(store_root, run_id):
    """Return a run as the UI sees it, and its store."""
    store = open_store(store_root, "ppdl")
    return store.client.get_run(run_id), store


def test_a_run_says_what_it_was(store_root, start):
    (store_root / "dvc.lock").write_text("stages: {split: {outs: [{path: data/prepared, md5: 12ab.dir}]}}\n")
    overrides = ("training.epochs=2", "keygen.private_dir=/media/usb/hospital-keys")
    with start(name="deterministic-bytes", view="bytes", sweep="multirun/today", job=4, overrides=overrides) as run:
        pass
    found, store = read(store_root, run.run_id)
    assert (found.info.run_name, found.info.status) == ("deterministic-bytes, trial 4 of today", "FINISHED")
    assert [run.name for run in finished_runs(store)] == ["deterministic-bytes"]
    assert found.data.params == {
        "seed": "7",
        "model.alpha": "0.35",
        "model.weights": "null",
        "model.fine_tune_depth": "null",
        "training.epochs": "2",
        "training.augmentation.flip": "true",
        "keygen.key_bits": "3072",
        "dataset.classes": '["COVID", "Normal"]',
    }
    expected = {
        "stage": "stages.train_encrypted",
        "protection": "deterministic",
        "view": "bytes",
        "confidential": "false",
        "key_fingerprint": "ab" * 32,
        "sweep": "multirun/today",
        "job": "4",
        "overrides": "training.epochs=2",
        "dvc.md5.data/prepared": "12ab.dir",
        "mlflow.note.content": "**Not confidential**: equal pixels give equal ciphertexts.",
    }
    assert expected.items() <= found.data.tags.items()
    assert "mlflow.parentRunId" not in found.data.tags
    (data,) = found.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("phantom, 100 images", "cd" * 16)
    assert data.dataset.profile == '{"num_train": 70, "num_validation": 10, "num_test": 20}'
    config = yaml.safe_load(Path(store.client.download_artifacts(run.run_id, "config.yaml")).read_text())
    assert config["training"] == {"epochs": 2, "augmentation": {"flip": True}}
    assert config["keygen"] == {"key_bits": 3072}


def test_a_plain_run_has_no_key(store_root, start):
    with start(name="plain", protection="plain", view="pixels", key_fingerprint=None, description="") as run:
        pass
    assert {"key_fingerprint", "sweep", "overrides", "mlflow.note.content"}.isdisjoint(read(store_root, run.run_id)[0].data.tags)


def test_metrics_go_into_the_sections_of_the_charts(store_root, start):
    with start() as run:
        run.log_epoch(0, {"loss": 2, "val_loss": 3.0, "val_accuracy": 0.25, "images_per_s": 130, "epoch": 0})
        run.log_epoch(1, {"loss": 1, "val_loss": 2.0, "val_accuracy": 0.5, "images_per_s": 150, "epoch": 1})
        run.log_summary({"best_epoch": 1, "stopped_early": False})
    found, store = read(store_root, run.run_id)
    assert found.data.metrics == {
        "train/loss": 1.0,
        "val/loss": 2.0,
        "val/accuracy": 0.5,
        "train/images_per_s": 150.0,
        "fit/best_epoch": 1.0,
        "fit/stopped_early": 0.0,
    }
    history = store.client.get_metric_history(run.run_id, "val/loss")
    assert [(m.step, m.value) for m in history] == [(0, 3.0), (1, 2.0)]


def test_a_metric_that_is_no_number_is_named(start):
    with pytest.raises(TrackingError, match="metric train/loss must be a number, got 'low'"), start() as run:
        run.log_epoch(0, {"loss": "low"})


def test_history_adds_the_epochs_that_were_trained_before_a_kill(store_root, start):
    history = pd.DataFrame({"epoch": [0, 1, 2], "loss": [3.0, 2.0, 1.0], "val_loss": [4.0, 5.0, 6.0]})
    with start() as run:
        run.log_epoch(2, {"loss": 1.0, "val_loss": 6.0})
        run.log_history(history)
    _, store = read(store_root, run.run_id)
    points = store.client.get_metric_history(run.run_id, "val/loss")
    assert sorted((m.step, m.value) for m in points) == [(0, 4.0), (1, 5.0), (2, 6.0)]


def test_figures(store_root, start):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    with start() as run:
        run.log_figure("history", figure)
    _, store = read(store_root, run.run_id)
    assert Path(store.client.download_artifacts(run.run_id, "figures/history.png")).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("no such layer"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "FAILED")],
)
def test_a_run_that_does_not_end_well_says_so(store_root, start, error, status):
    with pytest.raises(type(error)), start() as run:
        raise error
    found, _ = read(store_root, run.run_id)
    assert found.info.status == status
    assert found.data.tags["failure"] == f"{type(error).__name__}: {error}"


def test_key_material_in_an_error_is_not_logged(store_root, start):
    with pytest.raises(ValueError, match="PRIVATE KEY"), start() as run:
        raise ValueError("cannot parse -----BEGIN PRIVATE KEY----- AQAB")
    assert read(store_root, run.run_id)[0].data.tags["failure"] == "ValueError"


CHILD = """
import os, sys, time
from pathlib import Path
from ppdl.tracking import DatasetRecord, RunSpec, start_training_run
root = Path(sys.argv[1])
data = DatasetRecord("phantom", "cd" * 32, "data/prepared", {"train": 1})
spec = RunSpec("plain", "stages.train_plain", {"seed": 1}, "plain", "pixels", False, None, data, ())
with start_training_run(spec, store_root=root, project=root, experiment="ppdl") as run:
    run.log_epoch(0, {"loss": 1.0})
    print(run.run_id, flush=True)
    time.sleep(60)
"""


def kill_a_run(store_root, number):
    """Start a run in another process, send it a signal after its first epoch, and return its id and exit status."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(store_root)], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    run_id = child.stdout.readline().strip()
    os.kill(child.pid, number)
    child.communicate(timeout=60)
    return run_id, child.returncode


def test_a_terminated_run_is_marked_as_killed(store_root):
    run_id, status = kill_a_run(store_root, signal.SIGTERM)
    found, _ = read(store_root, run_id)
    assert status == 128 + signal.SIGTERM
    assert found.info.status == "KILLED"
    assert found.data.metrics == {"train/loss": 1.0}


def test_a_run_that_died_without_a_word_is_marked_by_the_next(store_root, start):
    run_id, status = kill_a_run(store_root, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert read(store_root, run_id)[0].info.status == "RUNNING"
    with start() as first, start() as second:  # the first is alive: the second leaves it alone
        assert read(store_root, first.run_id)[0].info.status == "RUNNING"
    found, _ = read(store_root, run_id)
    assert (found.info.status, found.data.tags["failure"]) == ("KILLED", "the process ended without a word")
    assert [read(store_root, run.run_id)[0].info.status for run in (first, second)] == ["FINISHED"] * 2


def test_signal_handlers_are_given_back(start):
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a library that another test loaded may have set one
    try:
        with start():
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_someone_set_stays(start, monkeypatch):
    def handler(number, frame):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with start():
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_in_a_thread(store_root, start):
    ids = []

    def train():
        with start() as run:
            ids.append(run.run_id)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert read(store_root, ids[0])[0].info.status == "FINISHED"


def test_a_store_that_goes_and_comes_back_gets_every_epoch(store_root, start, monkeypatch, caplog):
    from mlflow import MlflowClient

    log_batch, gone = MlflowClient.log_batch, True

    def flaky(self, *args, **kwargs):
        if gone:
            raise MlflowException("API request failed: connection refused")
        return log_batch(self, *args, **kwargs)

    with start() as run:
        run.log_epoch(0, {"loss": 3.0})
        monkeypatch.setattr(MlflowClient, "log_batch", flaky)
        with caplog.at_level(logging.WARNING, "ppdl"):
            run.log_epoch(1, {"loss": 2.0})
        gone = False
        run.log_epoch(2, {"loss": 1.0})
    assert f"MLflow run {run.run_id}: not logged: 1 values of metrics (sent again with the next) (API request" in caplog.text
    _, store = read(store_root, run.run_id)
    points = store.client.get_metric_history(run.run_id, "train/loss")
    assert [(m.step, m.value) for m in points] == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_a_store_that_stays_away_does_not_stop_training(store_root, start, monkeypatch, caplog):
    with start() as run:
        monkeypatch.setattr("ppdl.tracking.store.Store.is_reachable", lambda self: False)
        run.log_epoch(0, {"loss": 3.0})
        run.write_record(store_root / "run.json")
    assert "Training goes on; `ppdl model restore-runs` adds later what run.json holds" in caplog.text
    assert read(store_root, run.run_id)[0].data.metrics == {}


POSTGRES = '(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "dataset_pk"'
SQLITE = "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest"


@pytest.mark.parametrize("said", [POSTGRES, SQLITE])
def test_a_dataset_that_another_run_adds_at_the_same_moment_is_found(store_root, start, monkeypatch, said):
    from mlflow import MlflowClient

    log_inputs, calls = MlflowClient.log_inputs, []

    def too_late_once(self, *arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise MlflowException(said)
        return log_inputs(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "log_inputs", too_late_once)
    with start() as run:
        pass
    assert len(calls) == 2
    assert [entry.dataset.name for entry in read(store_root, run.run_id)[0].inputs.dataset_inputs] == ["phantom, 100 images"]


def test_another_failure_of_the_dataset_stops_the_run(start, monkeypatch):
    from mlflow import MlflowClient

    def full(self, *arguments, **options):
        raise MlflowException("disk full")

    monkeypatch.setattr(MlflowClient, "log_inputs", full)
    with pytest.raises(TrackingError, match="disk full"), start():
        pass


def test_nothing_of_a_private_key_reaches_the_store(tmp_path, store_root, start):
    from phe import generate_paillier_keypair

    _, key = generate_paillier_keypair(n_length=512)
    private_dir = tmp_path / "hospital-keys"
    private_dir.mkdir()
    parts = [text for part in (key.p, key.q) for text in _texts(part)]
    (private_dir / "key.json").write_text(parts[0])
    config = {"seed": 1, "keygen": {"key_bits": 512, "private_dir": str(private_dir)}}
    with start(config=config, overrides=(f"keygen.private_dir={private_dir}",)) as run:
        run.log_epoch(0, {"loss": 1.0})
        run.write_record(store_root / "models" / "run.json")
    files = [path for path in store_root.rglob("*") if path.is_file()]
    assert {"mlflow.db", "config.yaml", "run.json"} <= {path.name for path in files}
    for path in files:
        data = path.read_bytes()
        for secret in [*parts, str(private_dir)]:
            assert secret.encode() not in data, f"{path} holds a private part or its place"


def _texts(number):
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return [
        str(number),
        f"{number:x}",
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"note": '{"kty": "DAJ"}'}},
        {"overrides": ("note=-----BEGIN PRIVATE KEY-----",)},
        {"description": "x" * 200},
    ],
)
def test_key_material_in_a_spec_stops_the_run_before_anything_is_written(store_root, start, changes):
    with pytest.raises(TrackingError, match="looks like key material"), start(**changes):
        pytest.fail("training must not begin")
    store = open_store(store_root, "ppdl")
    assert store.client.search_runs([store.experiment_id]) == []


def test_it_is_mlflows_active_run_so_that_a_users_own_logging_goes_to_it(store_root, start, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    with start() as first, start() as second:
        assert mlflow.active_run().info.run_id == second.run_id
        mlflow.log_metric("own", 1.5)
        mlflow.log_param("own_param", "x")
    with pytest.raises(ValueError, match="wrong"), start() as third:
        raise ValueError("wrong")
    assert mlflow.active_run() is None and "MLFLOW_TRACKING_URI" not in os.environ
    store = open_store(store_root, "ppdl")
    assert store.experiment == "mine"
    found = [store.client.get_run(run.run_id) for run in (first, second, third)]
    assert [run.info.status for run in found] == ["FINISHED", "FINISHED", "FAILED"]
    assert {run.info.experiment_id for run in found} == {store.experiment_id}
    assert found[1].data.metrics == {"own": 1.5} and found[1].data.params["own_param"] == "x" and "own" not in found[0].data.metrics
