"""`ppdl predict --server`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ppdl.cli.answers import finish, print_answers
from ppdl.cli.artifact.decrypt import load_key

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import PrivateKey

OWNER = "the validation images of the head's owner"
TOKEN_VARIABLE = "PPDL_TOKEN"  # nosec B105  # the name of a variable


def ask_server(
    url: str,
    images: tuple[Path, ...],
    private_key: Path | None,
    backbone: Path,
    token_file: Path | None,
    ca_file: Path | None,
    *,
    insecure_http: bool,
    as_json: bool,
) -> None:
    """Classify image files with a server, and print as `ppdl predict` does."""
    from ppdl.prediction.predict import DISCLAIMER
    from ppdl.serving.client.connection import Conversation
    from ppdl.serving.client.remote import predict_remote

    key = _private_key(private_key)
    with Conversation(url, token=_token(token_file), ca_file=ca_file, insecure_http=insecure_http) as server:
        statement, found = predict_remote(server, key, backbone, images)
    fingerprint = key.public.fingerprint
    if as_json:
        tree = {
            "server": url,
            "key_fingerprint": fingerprint,
            "statement_sha256": statement.sha256.hex(),
            "temperature": statement.head.temperature,
            "calibrated_on": OWNER,
            "disclaimer": DISCLAIMER,
            "predictions": [row.tree for row in found.rows],
            "failed": [{"file": str(path), "reason": reason} for path, reason in found.bad.items()],
        }
        click.echo(json.dumps(tree, indent=1))
    elif found.rows:
        notes = f"calibrated on {OWNER}", "whether an image is unlike the training set cannot be said: the server sees no features"
        print_answers(f"private inference, key {fingerprint[:16]}", statement.head.class_names, found, *notes)
    finish(found)


def _private_key(path: Path | None) -> PrivateKey:
    """Load the private key that the user names, or that of the checkout's public key for inference."""
    from ppdl.crypto.keys.keystore import default_private_dir, load_public, private_path
    from ppdl.crypto.keys.purpose import INFERENCE, PUBLIC_PATHS
    from ppdl.errors import KeyStoreError

    if path is None:
        if not (public_path := PUBLIC_PATHS[INFERENCE]).exists():
            raise KeyStoreError(f"{public_path} is missing: make a pair with `ppdl key make --purpose inference`, or give --private-key")
        path = private_path(default_private_dir(), load_public(public_path, INFERENCE).fingerprint)
    return load_key(path, INFERENCE)


def _token(path: Path | None) -> str | None:
    """Read the token: from a file or the environment, never from the command line, which every process list shows."""
    from ppdl.errors import ConfigError

    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {path} cannot be read ({error})") from None
    if not token or not token.isprintable() or " " in token:
        raise ConfigError(f"--token-file {path} must hold one token, as `ppdl serve --new-token` printed it")
    return token
