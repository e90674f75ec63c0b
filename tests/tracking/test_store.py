import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ppdl.errors import TrackingError
from ppdl.tracking import open_store
from ppdl.tracking.store import is_here

PROJECT = Path(__file__).resolve().parents[2]
COLD_START = """
import sys
import time
from pathlib import Path
from ppdl.tracking import open_store
from ppdl.tracking.runs.write import create_run
root, gate = map(Path, sys.argv[1:])
import mlflow  # so that the processes reach the gate together
print("ready", flush=True)
while not gate.exists():
    time.sleep(0.01)
store = open_store(root, "ppdl")
print(store.experiment_id, create_run(store, "plain", {}, start_ms=0))
"""


def test_processes_that_start_at_once_share_a_cold_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    gate, root = tmp_path / "gate", tmp_path / "cold"
    command = [sys.executable, "-c", COLD_START, str(root), str(gate)]
    processes = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    gate.touch()
    results = [process.communicate(timeout=120) for process in processes]
    assert [p.returncode for p in processes] == [0] * 3, "\n".join(err for _, err in results)
    experiments, runs = zip(*(out.split() for out, _ in results), strict=True)
    assert len(set(experiments)) == 1
    store = open_store(root, "ppdl")
    assert {run.info.run_id for run in store.client.search_runs([store.experiment_id])} == set(runs)
    assert not any("alembic" in err for _, err in results)  # a cold start prints no list of migrations


def test_default_store_lies_in_the_checkout(store_root):
    store = open_store(store_root, "ppdl")
    experiment = store.client.get_experiment(store.experiment_id)
    assert store.uri == f"sqlite:///{store_root}/mlflow.db"
    assert experiment.artifact_location == (store_root / "mlartifacts").as_uri()
    assert open_store(store_root, "ppdl").experiment_id == store.experiment_id


def test_opening_changes_no_global_state(store_root):
    import mlflow

    before = mlflow.get_tracking_uri()
    open_store(store_root, "ppdl")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert mlflow.get_tracking_uri() == before
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_tracking_uri_of_the_environment_wins(store_root, migrated_db, tmp_path, monkeypatch):
    elsewhere = tmp_path / "shared store" / "Größe"
    elsewhere.mkdir(parents=True)
    shutil.copy(migrated_db, elsewhere / "runs.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}/runs.db")
    store = open_store(store_root, "ppdl")
    run = store.client.create_run(store.experiment_id)
    store.client.log_text(run.info.run_id, "x", "x.txt")
    assert (elsewhere / "mlartifacts" / run.info.run_id / "artifacts" / "x.txt").read_text() == "x"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert open_store(store_root, "ppdl").client.search_runs([store.experiment_id]) == []


def test_deleted_experiment_is_named_with_the_way_back(store_root):
    store = open_store(store_root, "ppdl")
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(TrackingError) as caught:
        open_store(store_root, "ppdl")
    assert f"mlflow experiments restore --experiment-id {store.experiment_id}" in str(caught.value)
    assert "tracking.experiment=NAME" in str(caught.value)


def test_unreachable_server_is_named_within_seconds(store_root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hunter2@127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        open_store(store_root, "ppdl")
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert "cannot open the MLflow store http://someone:***@127.0.0.1:9" in message
    assert "hunter2" not in message
    assert "unset it to log to mlflow.db" in message


@pytest.mark.parametrize(
    ("uri", "advice"),
    [
        ("mysql+nodriver://u:hunter2@127.0.0.1:9/x", "Correct MLFLOW_TRACKING_URI"),
        ("nonsense://x", "Correct MLFLOW_TRACKING_URI, or unset it"),
    ],
)
def test_a_uri_that_names_no_store_is_named(store_root, monkeypatch, uri, advice):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError) as caught:
        open_store(store_root, "ppdl")
    assert advice in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ImportError("No module named 'psycopg'"), "No module named 'psycopg'\nInstall that package"),
        (OSError("table experiments already exists"), "A kill cut the making of its tables short: drop them if they hold no run"),
        (OSError("cannot connect to postgresql://u:hunter2@h/x"), "cannot connect to postgresql://u:***@h/x\nCorrect"),
    ],
)
def test_failures_of_a_database_server_hide_its_password(store_root, monkeypatch, error, expected):
    def fail(uri):
        raise error

    monkeypatch.setattr("mlflow.MlflowClient", fail)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://u:hunter2@h/x")
    with pytest.raises(TrackingError) as caught:
        open_store(store_root, "ppdl")
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_store_of_old_is_refused(store_root, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    with pytest.raises(TrackingError, match="cannot open the MLflow store file:"):
        open_store(store_root, "ppdl")


def test_a_database_of_another_version_is_not_touched(store_root):
    with sqlite3.connect(store_root / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(TrackingError, match="Another version of MLflow wrote the database: back it up"):
        open_store(store_root, "ppdl")


def test_a_damaged_database_is_named(store_root):
    (store_root / "mlflow.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(TrackingError, match="The database is damaged: move it away"):
        open_store(store_root, "ppdl")


def test_a_store_in_a_place_that_cannot_be_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match="Make it and its folder writable by this user, or set MLFLOW_TRACKING_URI"):
        open_store(tmp_path / "file" / "store", "ppdl")


def test_a_read_only_database_is_named(store_root, start, monkeypatch, tmp_path):
    open_store(store_root, "ppdl")
    monkeypatch.chdir(tmp_path)  # MLflow takes such a URI for a path, too, and makes its folders here
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{store_root}/mlflow.db?mode=ro&uri=true")
    with pytest.raises(TrackingError, match=r"readonly database.*\n.*writable by this user"), start():
        pytest.fail("training must not begin")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(store_root):
    store_root.chmod(0o500)
    with pytest.raises(TrackingError, match="writable by this user"):
        open_store(store_root, "ppdl")


def test_a_lock_that_is_never_given_back_is_named(store_root, monkeypatch):
    monkeypatch.setattr("ppdl.tracking.store._LOCK_TIMEOUT_S", 0.1)
    with open_store(store_root, "ppdl").lock(), pytest.raises(TrackingError, match="Another process holds it"):
        open_store(store_root, "ppdl")


@pytest.mark.parametrize(
    ("place", "uri", "here"),
    [
        ("file:///data/mlartifacts", "sqlite:////data/mlflow.db", True),
        ("/data/mlartifacts", "postgresql+psycopg2://mlflow@db.hospital.org/mlflow", True),  # files are here, numbers there
        ("mlflow-artifacts:/1", "http://127.0.0.1:5000", True),
        ("mlflow-artifacts:/1", "http://[::1]:5000", True),
        ("mlflow-artifacts:/1", "http://localhost:5000/base", True),
        ("mlflow-artifacts:/1", "https://mlflow.hospital.org", False),
        ("mlflow-artifacts:/1", "http://127.0.0.1.evil.org:5000", False),
        ("mlflow-artifacts:/1", "http://user:x@127.0.0.1@evil.org", False),
        ("mlflow-artifacts://other.org/1", "http://127.0.0.1:5000", False),
        ("s3://bucket/1", "sqlite:////data/mlflow.db", False),
        ("file://nas/share/1", "sqlite:////data/mlflow.db", False),
        ("dbfs:/databricks/mlflow", "databricks", False),
        ("mlflow-artifacts:/1", "databricks", False),
    ],
)
def test_which_stores_keep_their_files_on_this_machine(place, uri, here):
    assert is_here(place, uri) is here


@pytest.mark.parametrize(("log_report", "taken"), [("auto", True), (True, True), (False, False)])
def test_pictures_go_to_a_store_on_this_machine(store_root, capsys, log_report, taken):
    assert open_store(store_root, "local").takes_pictures(log_report) is taken
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("log_report", "taken", "line"),
    [
        ("auto", False, "is not on this machine: they stay out of MLflow at sqlite"),
        (True, True, "report.html and Grad-CAM, which show images, leave this machine for s3://bucket/x"),
        (False, False, ""),
    ],
)
def test_pictures_leave_this_machine_only_when_asked_for_and_a_line_says_so(store_root, capsys, log_report, taken, line):
    store = open_store(store_root, "first")
    store.client.create_experiment("away", artifact_location="s3://bucket/x")
    assert open_store(store_root, "away").takes_pictures(log_report) is taken
    out = capsys.readouterr().out
    assert line in out and out.count("\n") == bool(line)
