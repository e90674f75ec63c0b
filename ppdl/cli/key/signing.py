"""`ppdl key signing`."""

from pathlib import Path

import click


@click.command(short_help="Make a key pair that signs artifacts.")
@click.option("--public", required=True, type=click.Path(path_type=Path), help="New file of the public key: for those who check.")
@click.option("--private-dir", type=click.Path(path_type=Path), help="Folder of private keys, outside the project.")
def signing(public: Path, private_dir: Path | None) -> None:
    """Make an Ed25519 key pair that signs artifacts. It has nothing to do with the Paillier key, and decrypts nothing.

    The private part lies in $PPDL_PRIVATE_KEY_DIR, else ~/.local/share/ppdl/keys, readable by you alone. Hand the public file to those who
    check over a channel that they trust, such as a signed commit.

    \b
    ppdl key signing --public signers/source.json
    """
    from ppdl.cli.key.make import project_of
    from ppdl.crypto.keys.keystore import check_private_dir, default_private_dir
    from ppdl.crypto.signing import make_signing_key

    private_dir = private_dir or default_private_dir()
    check_private_dir(private_dir, project_of(public))
    click.echo(f"{make_signing_key(private_dir, public)}: private, stays on this machine; {public}: public")
