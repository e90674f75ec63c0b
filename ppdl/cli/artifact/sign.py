"""`ppdl artifact sign`."""

from pathlib import Path

import click


@click.command(short_help="Sign ARTIFACT, or a revealed view.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--signing-key", required=True, type=click.Path(path_type=Path), help="Private file that `ppdl key signing` wrote.")
def sign(artifact: Path, signing_key: Path) -> None:
    """Write header.sig into ARTIFACT, a folder of data/encrypted, data/stem or data/revealed, once every byte has been checked.

    An older signature is replaced. DVC sees a change: tell it that the stage needs no rerun with `dvc commit STAGE`. Stages sign by
    themselves where signing.private_key is set.

    \b
    ppdl artifact sign data/encrypted/homomorphic --signing-key ~/.local/share/ppdl/keys/signing-KEY.json
    """
    from ppdl.cli.artifact.verify import check_bytes
    from ppdl.crypto import signing

    key = signing.load_signing_key(signing_key)
    check_bytes(artifact, None)
    signing.sign(artifact, key)
    click.echo(f"{artifact}: signed by {key.public_key().public_bytes_raw().hex()}")
