"""An MLflow store for each test, copied rather than made."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(autouse=True)
def empty_store(tmp_path, migrated_db):
    """Put an empty store where `open_store(tmp_path, ...)` finds it."""
    shutil.copy(migrated_db, tmp_path / "mlflow.db")
