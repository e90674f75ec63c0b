"""Shared fixtures: nothing in a test may touch the user's own key store or MLflow store."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # timings decide no test
settings.load_profile("any machine")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Threads of OpenBLAS and TensorFlow wait for each other busily: beside another worker of pytest-xdist they take twice the time and more.
for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "true")  # of DVC projects that tests make; ours says so itself


def pytest_configure(config):
    """Let pytest-xdist hand out files in the order in which they were collected, not by their number of tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Begin with the real pipeline: it takes minutes in one file, and whatever begins last keeps the other core waiting."""
    items.sort(key=lambda item: (item.get_closest_marker("pipeline") is None, item.path.name != "test_pipeline.py"))


@pytest.fixture(autouse=True)
def own_key_store(tmp_path_factory, monkeypatch):
    """Keep private keys of tests out of the user's folder."""
    monkeypatch.setenv("PPDL_PRIVATE_KEY_DIR", str(tmp_path_factory.mktemp("private-keys")))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A checkout after `dvc repro` in miniature (tests/trained_checkout.py), for tests that only read it."""
    from tests.trained_checkout import build_checkout

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return build_checkout(tmp_path_factory.mktemp("trained") / "checkout", tmp_path_factory.mktemp("trained-keys"))


@pytest.fixture(scope="session")
def migrated_db(tmp_path_factory):
    """Path of a database with MLflow's tables and no experiment of ours; making one takes 1.5 s."""
    from ppdl.tracking import open_store

    root = tmp_path_factory.mktemp("migrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        open_store(root, "other")
    return root / "mlflow.db"
