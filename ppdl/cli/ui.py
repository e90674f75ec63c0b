"""`ppdl ui`."""

import os
import socket
import sys
import time
import urllib.error
import urllib.request

import click

from ppdl.cli.store import checkout_store
from ppdl.errors import TrackingError


@click.command(short_help="Browse the MLflow runs.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on 127.0.0.1.")
def ui(port: int) -> None:
    """Serve MLflow's UI on 127.0.0.1 until Ctrl-C; once it answers, print the address that opens on the runs of this project.

    Only this machine can reach it. Where MLFLOW_TRACKING_URI names a server, nothing is started.
    """
    store = checkout_store()

    from ppdl.tracking.failures import is_http
    from ppdl.tracking.runs.page import page_address, server_command, server_environment

    if is_http(store.uri):
        click.echo(f"runs     {page_address(store.shown, store.experiment_id)}")
        return
    check_free(port)
    server = f"http://127.0.0.1:{port}"
    if os.fork() == 0:
        wait_for(server, os.getppid())
        click.echo(f"runs     {page_address(server, store.experiment_id)}")
        os._exit(0)
    # In this process's place: Ctrl-C and signals then reach MLflow without another process in between.
    os.execve(sys.executable, server_command(port), server_environment(store, os.environ))  # nosec B606  # this interpreter, no shell


def wait_for(server: str, parent: int) -> None:
    """Return once a server answers; end this process where its `parent`, which becomes the server, ends before."""
    while os.getppid() == parent:
        try:
            urllib.request.urlopen(f"{server}/health", timeout=5).close()  # nosec B310  # http, to this machine
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    os._exit(1)


def check_free(port: int) -> None:
    """Raise a TrackingError where another program listens on the port, which MLflow would say at the end of a traceback."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise TrackingError(f"port {port} of 127.0.0.1 cannot be used ({reason}): choose another, `make ui PORT=5001`") from None
