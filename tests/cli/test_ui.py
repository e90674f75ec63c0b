"""`ppdl ui` where it starts no server; tests/tracking/test_ui.py has it where it does."""

import socket

import pytest
from click.testing import CliRunner

from ppdl.cli import main


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_in_use_is_named_before_anything_is_started(taken, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    done = CliRunner().invoke(main, ["ui", "--port", str(taken)])
    assert done.exit_code == 1
    assert f"port {taken} of 127.0.0.1 cannot be used (Address already in use): choose another" in done.output
    assert "http://" not in done.output


def test_a_server_that_does_not_answer_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    done = CliRunner().invoke(main, ["ui"])
    assert done.exit_code == 1 and f"http://127.0.0.1:{port}" in done.output and "Start that server" in done.output
