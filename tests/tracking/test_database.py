"""MLflow's sqlite database: made whole or not at all; what holds nothing is made anew, what holds something is never touched."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine

from ppdl.errors import TrackingError
from ppdl.tracking import open_store
from ppdl.tracking.database import database_file, ensure_whole

OLD_SCHEMA = "acf3f17fdcc7"  # of MLflow 2.9


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "checkout"
    folder.mkdir()
    return folder


@pytest.fixture
def made_quickly(migrated_db, monkeypatch):
    """Copy a new database rather than have MLflow make it, which takes 2 s."""
    monkeypatch.setattr("mlflow.db.upgrade.callback", lambda url: shutil.copy(migrated_db, url.removeprefix("sqlite:///")))


def old_store(path: Path, rows: tuple[str, ...] = ()) -> None:
    """Make the tables that an older MLflow made, with rows in them."""
    from alembic import command
    from mlflow.store.db.utils import InitialBase, _get_alembic_config

    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    InitialBase.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLD_SCHEMA)
    with closing(sqlite3.connect(path)) as database, database:
        for row in rows:
            database.execute(row)


EXPERIMENT = "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (0, 'Default', 'active')"
RUN = (
    "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status, user_id, start_time, artifact_uri) "
    "VALUES ('ab12', 'plain', 0, 'active', 'FINISHED', 'someone', 0, 'file:///x')"
)


def works(root: Path) -> bool:
    store = open_store(root, "ppdl")
    run_id = store.client.create_run(store.experiment_id).info.run_id
    return [run.info.run_id for run in store.client.search_runs([store.experiment_id])] == [run_id]


def test_an_older_store_with_runs_is_left_as_it_is_until_its_owner_upgrades_it(root):
    from mlflow.db import upgrade

    path = root / "mlflow.db"
    old_store(path, (EXPERIMENT, RUN))
    before = path.read_bytes()
    with pytest.raises(TrackingError) as caught:
        open_store(root, "ppdl")
    assert f"schema {OLD_SCHEMA}" in str(caught.value) and "something in experiments, runs" in str(caught.value)
    assert f"back it up, then run `mlflow db upgrade 'sqlite:///{path}'`" in str(caught.value)
    assert path.read_bytes() == before
    upgrade.callback(f"sqlite:///{path}")
    assert open_store(root, "ppdl").client.get_run("ab12").info.run_name == "plain"


def test_an_upgrade_that_was_cut_short_names_its_tables_and_the_way_on(root):
    old_store(root / "mlflow.db", (EXPERIMENT, RUN, "DELETE FROM alembic_version"))
    with pytest.raises(TrackingError, match=r"schema \(none\).*Where that fails.*`ppdl model restore-runs`"):
        open_store(root, "ppdl")


@pytest.mark.parametrize("left", ["one byte", "tables without a row", "a journal of another database"])
def test_what_holds_nothing_is_made_anew(root, made_quickly, left):
    path = root / "mlflow.db"
    if left == "one byte":
        path.write_bytes(b"S")  # sqlite takes a file of one byte for an empty one
    elif left == "tables without a row":
        old_store(path)
    else:
        leave_a_hot_journal(root)
    (root / "mlflow.db.new").write_bytes(b"what a kill left")
    (root / "mlflow.db.new-journal").write_bytes(b"what a kill left")
    assert works(root)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert sorted(p.name for p in root.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def leave_a_hot_journal(root: Path) -> None:
    """Leave the journal of a transaction that a kill ended, without its database: sqlite plays such a one back into what it finds."""
    with closing(sqlite3.connect(root / "other.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE t AS SELECT randomblob(900) AS x FROM json_each('[1,2,3,4,5,6,7,8,9]')")
        database.execute("PRAGMA cache_spill = 1")
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE t SET x = randomblob(900)")
        shutil.copy(root / "other.db-journal", root / "mlflow.db-journal")
    (root / "other.db").unlink()
    assert (root / "mlflow.db-journal").stat().st_size > 4096


@pytest.mark.parametrize("table", ["CREATE TABLE patients (name)", "CREATE TABLE alembic_version (version_num)"])
def test_a_database_of_another_program_is_left_as_it_is(root, table):
    path = root / "mlflow.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(table)
        database.execute("CREATE TABLE trials (number)")
    before = path.read_bytes()
    with pytest.raises(TrackingError, match=r"a database of another program: .*trials.* Move it away, or set MLFLOW_TRACKING_URI"):
        open_store(root, "ppdl")
    assert path.read_bytes() == before


@pytest.mark.parametrize("size", [50, 4096, 200_000])
def test_a_truncated_database_is_left_as_it_is(root, migrated_db, size):
    path = root / "mlflow.db"
    path.write_bytes(migrated_db.read_bytes()[:size])
    with pytest.raises(TrackingError, match="The database is damaged: move it away, run again"):
        open_store(root, "ppdl")
    assert path.stat().st_size == size


def test_tables_of_a_user_beside_those_of_mlflow_do_no_harm(store_root):
    with closing(sqlite3.connect(store_root / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE notes (text)")
    assert works(store_root)


def test_a_database_that_another_program_makes_meanwhile_is_kept(root, migrated_db, monkeypatch):
    path = root / "mlflow.db"

    def make_slowly(url):
        for place in (url.removeprefix("sqlite:///"), path):
            shutil.copy(migrated_db, place)

    monkeypatch.setattr("mlflow.db.upgrade.callback", make_slowly)
    ensure_whole(path)
    assert path.read_bytes() == migrated_db.read_bytes()
    assert [p.name for p in root.iterdir()] == ["mlflow.db"]


def test_a_link_to_a_database_elsewhere_stays_one(root, tmp_path, made_quickly):
    target = tmp_path / "elsewhere" / "runs.db"
    (root / "mlflow.db").symlink_to(target)
    assert works(root)
    assert (root / "mlflow.db").is_symlink() and target.is_file()


def test_only_a_plain_file_is_made_by_us(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert database_file("sqlite:///runs/a b.db") == tmp_path / "runs/a b.db"
    assert database_file("sqlite+pysqlite:////x/runs.db?timeout=9") == Path("/x/runs.db")
    for uri in ("sqlite://", "sqlite:///:memory:", "sqlite:///file:/x?mode=ro&uri=true", "postgresql://u@h/x", "http://h", "databricks"):
        assert database_file(uri) is None
