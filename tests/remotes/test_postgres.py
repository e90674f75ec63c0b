"""Runs on a shared MLflow server over PostgreSQL: a real cluster, a real server, artifacts through its proxy, set up as the how-to says."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from ppdl.cli import main
from ppdl.tracking import DatasetRecord, RunSpec, log_results, open_store, start_training_run
from ppdl.tracking.runs.page import describe_experiment
from tests.processes import answers, free_port, running

psycopg2 = pytest.importorskip("psycopg2", reason="no driver for PostgreSQL: pip install 'ppdl[postgres]'")

PROJECT = Path(__file__).resolve().parents[2]
PASSWORD = "not-a-secret:of/anybody"  # characters that a URI would have to escape
WRITER = """
import sys
import time
from pathlib import Path
import mlflow
from tests.remotes.test_postgres import spec
from ppdl.tracking import start_training_run
name, root = sys.argv[1], Path(sys.argv[2])
(root / f"{name}.ready").touch()
while not (root / "go").exists():
    time.sleep(0.005)
with start_training_run(spec(name), store_root=root, project=root, experiment="together") as run:
    for epoch in range(40):
        run.log_epoch(epoch, {"loss": 1 / (1 + epoch)})
    run.write_record(root / f"{name}.json")
"""


def spec(name: str) -> RunSpec:
    return RunSpec(
        name=name,
        stage="stages.train_plain",
        config={"seed": 7, "training": {"epochs": 40}},
        protection=name,
        view="pixels",
        confidential=False,
        key_fingerprint=None,
        dataset=DatasetRecord("phantom", "cd" * 32, "data/prepared", {"train": 70, "validation": 10, "test": 20}),
        inputs=(),
    )


@dataclass(frozen=True)
class Cluster:
    """A running cluster with an empty database `mlflow` of the user `mlflow`, whose password is in `passfile`."""

    port: int
    passfile: Path

    def count(self, query: str, *values: str) -> int:
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, dbname="mlflow", user="mlflow", password=PASSWORD)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchone()[0]
        finally:
            connection.close()


def programs() -> Path:
    """Return the folder of initdb and postgres: Debian's, or that of the ones on the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name.split(".")[0]))
    on_path = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    for folder in [*reversed(debian), *on_path]:
        if all((folder / name).is_file() for name in ("initdb", "postgres")):
            return folder
    message = "no PostgreSQL: initdb is neither below /usr/lib/postgresql nor on the PATH (Debian: apt-get install postgresql)"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{message}, and CI tests MLflow on it")
    pytest.skip(message)


def another_user() -> str | None:
    """Return whom PostgreSQL runs as where we are root, which it refuses."""
    if os.geteuid() != 0:
        return None
    return "postgres" if "postgres" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder, user, port = programs(), another_user(), free_port()
    home = Path(tempfile.mkdtemp(prefix="ppdl-postgres-"))  # pytest's own folders are closed to other users
    try:
        (home / "password").write_text(PASSWORD)
        passfile = home / "pgpass"
        passfile.write_text(f"127.0.0.1:{port}:*:mlflow:{PASSWORD.replace(':', chr(92) + ':')}\n")
        passfile.chmod(0o600)
        other = {}
        if user is not None:
            account = pwd.getpwnam(user)
            other = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            for path in (home, home / "password"):
                os.chown(path, account.pw_uid, account.pw_gid)
        data = home / "data"
        make = [
            folder / "initdb",
            "-D",
            data,
            "-U",
            "mlflow",
            "-A",
            "scram-sha-256",
            "--pwfile",
            home / "password",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run([*map(str, make)], check=True, capture_output=True, cwd=home, timeout=120, **other)
        command = [folder / "postgres", "-D", data, "-h", "127.0.0.1", "-p", port, "-k", home, "-F"]
        found = Cluster(port, passfile)
        log = home / "postgres.log"
        with running([*map(str, command)], log, is_up=lambda: accepts(found), user=user):
            create_database(found)
            yield found
    finally:
        shutil.rmtree(home)


def accepts(cluster: Cluster) -> bool:
    try:
        connect_to_postgres(cluster).close()
    except psycopg2.OperationalError:
        return False
    return True


def connect_to_postgres(cluster: Cluster) -> psycopg2.extensions.connection:
    return psycopg2.connect(host="127.0.0.1", port=cluster.port, dbname="postgres", user="mlflow", password=PASSWORD)


def create_database(cluster: Cluster) -> None:
    connection = connect_to_postgres(cluster)
    try:
        connection.autocommit = True  # CREATE DATABASE allows no transaction
        connection.cursor().execute("CREATE DATABASE mlflow")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start `mlflow server` on the cluster and return its address."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    command += ["--backend-store-uri", f"postgresql+psycopg2://mlflow@127.0.0.1:{cluster.port}/mlflow"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    env = {**os.environ, "PGPASSFILE": str(cluster.passfile), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    env.pop("MLFLOW_TRACKING_URI", None)
    with running(command, folder / "server.log", is_up=lambda: answers(f"http://127.0.0.1:{port}/health"), env=env):
        yield f"http://127.0.0.1:{port}"


def test_a_run_with_its_model_and_figures_reads_back(server, cluster, tmp_path, monkeypatch):
    keras = pytest.importorskip("keras")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    model = keras.Sequential([keras.Input((4, 4, 1), dtype="uint8"), keras.layers.Flatten(), keras.layers.Dense(3)])
    file = tmp_path / "models/plain/pixels/model.keras"
    file.parent.mkdir(parents=True)
    model.save(file)
    with start_training_run(spec("plain"), store_root=tmp_path, project=tmp_path, experiment="ppdl") as run:
        run.log_epoch(0, {"loss": 1.5, "val_accuracy": 0.5})
        run.log_epoch(1, {"loss": float("nan"), "val_accuracy": 0.75})
        run.log_figure("history", Figure())
        run.log_model(file, model, num_symbols=256, step=1, class_names=("a", "b", "c"))
        run.write_record(file.parent / "run.json")
    store = open_store(tmp_path, "ppdl")
    log_results(store, file.parent / "run.json", {"test": {"accuracy": 0.875}}, verdict="**Größe**: 0.9")
    describe_experiment(store, "**plain**: 87.5 %, in the clear")

    found = store.client.get_run(run.run_id)
    assert found.info.status == "FINISHED" and found.info.artifact_uri.startswith("mlflow-artifacts:")
    assert found.data.metrics["test/accuracy"] == 0.875 and np.isnan(found.data.metrics["train/loss"])
    assert found.data.params["training.epochs"] == "40" and "Größe" in found.data.tags["mlflow.note.content"]
    assert store.client.get_experiment(store.experiment_id).tags["mlflow.note.content"].startswith("**plain**")
    assert {"config.yaml", "figures"} <= {entry.path for entry in store.client.list_artifacts(run.run_id)}
    from mlflow.artifacts import download_artifacts

    location = store.client.get_logged_model(store.logged_model_id(run.run_id)).artifact_location
    copy = download_artifacts(f"{location}/data/model.keras", dst_path=str(tmp_path), tracking_uri=server)
    assert Path(copy).read_bytes() == file.read_bytes()
    assert not (tmp_path / "mlflow.db").exists() and not (tmp_path / "mlartifacts").exists()  # all of it is at the server
    printed = CliRunner().invoke(main, ["ui"])  # prints where the group's runs are, and starts nothing
    assert printed.exit_code == 0 and f"runs     {server}/#/experiments/{store.experiment_id}/runs?" in printed.output
    assert cluster.count("SELECT count(*) FROM runs WHERE status = 'FINISHED'") == 1


def test_two_writers_at_once_lose_nothing(server, cluster, tmp_path):
    env = {**os.environ, "MLFLOW_TRACKING_URI": server, "PYTHONPATH": str(PROJECT)}
    names = ("first", "second")
    command = [sys.executable, "-c", WRITER]
    writers = [
        subprocess.Popen([*command, name, str(tmp_path)], env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for name in names
    ]
    deadline = time.monotonic() + 120
    while not all((tmp_path / f"{name}.ready").exists() for name in names):
        assert time.monotonic() < deadline and all(writer.poll() is None for writer in writers)
        time.sleep(0.05)
    (tmp_path / "go").touch()
    outcomes = [(writer.communicate(timeout=120)[1], writer.returncode) for writer in writers]
    assert [code for _, code in outcomes] == [0, 0], "\n".join(error for error, _ in outcomes)
    for name in names:
        assert cluster.count("SELECT count(*) FROM metrics JOIN runs USING (run_uuid) WHERE key = 'train/loss' AND name = %s", name) == 40
    assert cluster.count("SELECT count(*) FROM experiments WHERE name = 'together'") == 1
    both = (
        "SELECT count(*) FROM runs a, runs b WHERE a.name = %s AND b.name = %s AND a.start_time < b.end_time AND b.start_time < a.end_time"
    )
    assert cluster.count(both, *names) == 1  # they did write at once
