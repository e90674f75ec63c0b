"""MLflow's sqlite database, made whole or not at all.

MLflow makes its tables in place, by some 70 migrations that commit one by one, and takes what a kill leaves of that for a database that
it cannot read. So a new one is made beside its place, and takes its name when it is whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ppdl.errors import TrackingError
from ppdl.records.atomic import put
from ppdl.tracking.failures import ANOTHER_VERSION, ENV

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SIDECARS = ("-journal", "-wal", "-shm")


def database_file(uri: str) -> Path | None:
    """Return the file of an sqlite store.

    None where something else keeps the store, or an address `file:...` does, whose options may forbid that a file is made.
    """
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy import make_url

    name = make_url(uri).database
    return None if not name or name == ":memory:" or name.startswith("file:") else Path(name).resolve()


def ensure_whole(path: Path) -> None:
    """Make an MLflow database where there is none, or one whose making was cut short and that holds nothing.

    The caller holds the store's lock. A program without it, like `mlflow server`, may be making the database at the same time: what has
    changed while ours was made is looked at again.

    Raises:
        TrackingError: the database holds something, and its tables are not those of this MLflow, or another program's.
        SQLAlchemyError: it is damaged.

    Cost: 0.04 s for a whole one, 2 s to make one.
    """
    import click
    from mlflow.db import upgrade  # `mlflow db upgrade`, which makes the tables of an empty database

    new = path.with_name(path.name + ".new")
    while (found := _state(path)) is None or not _is_whole(path):
        try:
            _delete(new)
            click.Context(upgrade).invoke(upgrade, url=f"sqlite:///{new}")
            if _state(path) == found:
                _delete(path)  # with its journal, which sqlite would play back into the new one
                put(new, path)
        finally:
            _delete(new)


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_whole(path: Path) -> bool:
    """Tell a database with the tables of this MLflow from one that holds nothing.

    Raises:
        TrackingError: it is neither.
    """
    import mlflow.store.db.utils  # it loads the modules of all tables
    import mlflow.store.db_migrations
    import sqlalchemy
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

    engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_heads()
        needed = ScriptDirectory(mlflow.store.db_migrations.__path__[0]).get_heads()
        if list(found) == list(needed):
            return True
        tables = sorted(name for name in sqlalchemy.inspect(connection).get_table_names() if not name.startswith("_alembic_tmp_"))
        foreign = [name for name in tables if name not in {*Base.metadata.tables, *InitialBase.metadata.tables, "alembic_version"}]
        if foreign:
            raise TrackingError(
                f"{path} is a database of another program: it has tables that are not MLflow's ({', '.join(foreign[:5])}), and lacks some "
                f"that are. Move it away, or set {ENV} to another store."
            )
        filled = [name for name in tables if _holds_something(connection, name)]
    if filled:
        raise TrackingError(
            f"{path} has the tables of MLflow's schema {' '.join(found) or '(none)'}, this MLflow needs {' '.join(needed)}, and there is "
            f"something in {', '.join(filled[:5])}. {ANOTHER_VERSION.format(uri=f'sqlite:///{path}')} Where that fails, a kill cut an "
            "earlier upgrade short: move the file away, run again, then rebuild its runs with `ppdl model restore-runs`."
        )
    return False


def _holds_something(connection: Connection, table: str) -> bool:
    """Tell whether there is more in a table than MLflow's migrations put there."""
    import sqlalchemy

    own = {"alembic_version": "1", "workspaces": "name = 'default'"}.get(table, "0")
    query = f'SELECT 1 FROM "{table}" WHERE NOT ({own}) LIMIT 1'  # noqa: S608  # nosec B608  # tables are named by MLflow's own schema
    return connection.execute(sqlalchemy.text(query)).first() is not None


def _delete(path: Path) -> None:
    """Delete a database and, after it, what sqlite keeps beside it: a journal without its database is harmless, the reverse is not."""
    for name in ("", *_SIDECARS):
        path.with_name(path.name + name).unlink(missing_ok=True)
