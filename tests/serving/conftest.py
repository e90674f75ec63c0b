"""One server for the tests that only ask, and one without a process round it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ppdl.serving.server.compute import Workers
from ppdl.serving.server.service import Service
from ppdl.serving.server.store import State
from ppdl.serving.statement import Statement
from tests.serving.running import KEY_BITS, RunningServer, make_head

BUDGET = 10_000


@pytest.fixture(scope="package")
def running(tmp_path_factory) -> Iterator[RunningServer]:
    """Serve a small head."""
    folder = tmp_path_factory.mktemp("running")
    with RunningServer(folder, make_head(), "--max-queries-per-key", str(BUDGET), "--max-keys", "50", "--max-body", "20000") as server:
        yield server


@pytest.fixture(scope="package")
def workers() -> Iterator[Workers]:
    found = Workers(make_head(), mask_bits=40, secret=bytes(32), num_workers=1, max_queue=4)
    yield found
    found.close()


@pytest.fixture
def statement() -> Statement:
    return Statement(make_head().public, 40, (KEY_BITS, 2048), BUDGET)


@pytest.fixture
def service(tmp_path, statement, workers) -> Iterator[Service]:
    """The parts of a server for 5 images a key and 2 keys a client."""
    store = State(tmp_path / "state.sqlite")
    yield Service(replace(statement, budget=5), store, workers, max_keys=2)
    store.close()
