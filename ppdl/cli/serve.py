"""`ppdl serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


@click.command(short_help="Classify encrypted images for others, without seeing them.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8443, show_default=True, help="Port; 0: any that is free.")
@click.option(
    "--head",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("models/private_head"),
    show_default=True,
    help="Folder of the head.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of keys and budgets.  [default: ~/.local/state/ppdl/serve.sqlite]",
)
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False), help="Let in only who has one of these tokens.")
@click.option("--new-token", metavar="NAME", help="Add a token for the client NAME to --token-file, print it, and stop.")
@click.option("--tls-cert", type=click.Path(path_type=Path, dir_okay=False), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="Its private key, PEM.")
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    metavar="ADDRESS",
    multiple=True,
    help="Reverse proxy whose X-Forwarded-For names the client; may be repeated.",
)
@click.option(
    "--workers",
    "num_workers",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    show_default="all cores",
    help="Processes that compute.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Queries in work or waiting, a quarter of them one client's; more get 503.",
)
@click.option("--max-body", type=click.IntRange(min=1), default=2 << 20, show_default=True, help="Bytes of one query.")
@click.option(
    "--rate", "per_s", type=click.FloatRange(min=0, min_open=True), default=50, show_default=True, help="Requests a second of one client."
)
@click.option("--max-queries-per-key", type=click.IntRange(min=1), default=250, show_default=True, help="Images for one key, ever.")
@click.option("--max-keys", type=click.IntRange(min=1), default=1, show_default=True, help="Keys that one client may register.")
@click.option("--insecure-open-network", "insecure_network", is_flag=True, help="Listen beyond this machine without TLS or tokens.")
@click.option("--allow-insecure-key", is_flag=True, help="Take 512-bit keys, which can be broken, for tests only.")
def serve(new_token: str | None, token_file: Path | None, state: Path | None, **settings: Any) -> None:
    """Answer encrypted queries with a head's encrypted logits. The server learns nothing of the images; a client learns the logits.

    Enough queries determine the head, so each key has a budget. Beyond this machine TLS and tokens are asked for. docs/protocol.md says
    what each side sees, and what a malicious client can do.

    \b
    ppdl serve                                                    this machine alone
    ppdl serve --token-file tokens --new-token ward-7             a token for one client
    ppdl serve --host 0.0.0.0 --token-file tokens --tls-cert cert.pem --tls-key key.pem
    """
    from ppdl.serving.server.run import ServerSettings, default_state
    from ppdl.serving.server.run import serve as run
    from ppdl.serving.server.tokens import add_token

    if new_token is not None:
        if token_file is None:
            raise click.UsageError("--new-token needs --token-file, the file to add it to")
        token = add_token(token_file, new_token)
        click.echo(token)
        click.echo(f"this is the only time that the token is shown; {token_file} holds its SHA-256", err=True)
        return
    run(ServerSettings(token_file=token_file, state=state or default_state(), **settings))
