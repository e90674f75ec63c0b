"""`ppdl ui`."""

import os
import socket
import sys

import click

from ppdl.cli.store import checkout_store
from ppdl.errors import TrackingError


@click.command(short_help="Browse the MLflow runs.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on 127.0.0.1.")
def ui(port: int) -> None:
    """Serve MLflow's UI on 127.0.0.1 until Ctrl-C, and print the address that opens on the runs of this project.

    Only this machine can reach it. Where MLFLOW_TRACKING_URI names a server, nothing is started.
    """
    from ppdl.tracking.failures import is_http
    from ppdl.tracking.runs.page import page_address, server_command, server_environment

    store = checkout_store()
    if not is_http(store.uri):
        check_free(port)
    server = store.shown if is_http(store.uri) else f"http://127.0.0.1:{port}"
    click.echo(f"runs     {page_address(server, store.experiment_id)}")
    if not is_http(store.uri):
        sys.stdout.flush()
        # In this process's place: Ctrl-C and signals then reach MLflow without another process in between.
        os.execve(sys.executable, server_command(port), server_environment(store, os.environ))  # nosec B606  # this interpreter, no shell


def check_free(port: int) -> None:
    """Raise a TrackingError where another program listens on the port, which MLflow would say at the end of a traceback."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise TrackingError(f"port {port} of 127.0.0.1 cannot be used ({reason}): choose another, `make ui PORT=5001`") from None
