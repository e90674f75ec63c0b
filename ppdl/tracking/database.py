"""MLflow's sqlite database, made whole or not at all.

MLflow makes its tables in place, by some 70 migrations that commit one by one, and takes what a kill leaves of that for a database that
it cannot read. So a new one is made beside its place, and takes its name when it is whole.
"""

from __future__ import annotations

from pathlib import Path

from ppdl.errors import TrackingError
from ppdl.records.atomic import put
from ppdl.tracking.failures import ANOTHER_VERSION, ENV

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
    """Make an MLflow database where there is none, or one without tables.

    The caller holds the store's lock. A program without it, like `mlflow server`, may be making the database at the same time: what has
    changed while ours was made is looked at again.

    Raises:
        TrackingError: the database has the tables of another MLflow, or of another program.
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
    """Tell a database with the tables of this MLflow from one without tables.

    Raises:
        TrackingError: it is neither.
    """
    import mlflow.store.db_migrations
    import sqlalchemy
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_heads()
        needed = ScriptDirectory(mlflow.store.db_migrations.__path__[0]).get_heads()
        if list(found) == list(needed):
            return True
        tables = sqlalchemy.inspect(connection).get_table_names()
    if tables:
        raise TrackingError(
            f"{path} has tables ({', '.join(tables[:5])}) of schema {' '.join(found) or '(none)'}, and this MLflow needs "
            f"{' '.join(needed)}. {ANOTHER_VERSION.format(uri=f'sqlite:///{path}')} Where that fails, a kill cut an earlier upgrade short: "
            "move the file away, run again, then rebuild its runs with `ppdl model restore-runs`. If it is another program's, set "
            f"{ENV} to another store."
        )
    return False


def _delete(path: Path) -> None:
    """Delete a database and, after it, what sqlite keeps beside it: a journal without its database is harmless, the reverse is not."""
    for name in ("", *_SIDECARS):
        path.with_name(path.name + name).unlink(missing_ok=True)
