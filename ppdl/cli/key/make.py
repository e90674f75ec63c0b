"""`ppdl key make`."""

from pathlib import Path

import click

from ppdl.crypto.keys.purpose import ARCHIVE, PUBLIC_PATHS

DEFAULT_BITS = 3072


@click.command(short_help="Make sure that there is a key pair.")
@click.option(
    "--purpose",
    type=click.Choice(list(PUBLIC_PATHS)),
    default=ARCHIVE,
    show_default=True,
    help="What the pair is for: images that are kept, what a server is asked, sums of several parties.",
)
@click.option("--bits", type=int, help="Length of n: 2048, 3072 or 4096.  [default: that of the existing key, else 3072]")
@click.option("--private-dir", type=click.Path(path_type=Path), help="Folder of private keys, outside the project.")
@click.option("--public", type=click.Path(path_type=Path), help="Public key file.  [default: keys/public.json; keys/PURPOSE.json]")
@click.option("--allow-insecure-key", is_flag=True, help="Admit other lengths, for tests only.")
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase that protects the private key file.")
def make(purpose: str, bits: int | None, private_dir: Path | None, public: Path | None, allow_insecure_key: bool, passphrase: bool) -> None:
    """Make sure that there is a key pair; make one where there is none. Each purpose has its own, and commands refuse that of another.

    An existing pair is kept, a public file that was lost is rebuilt from its private key, and no private file is ever overwritten. Private
    keys lie in $PPDL_PRIVATE_KEY_DIR, else ~/.local/share/ppdl/keys. Asking for another length takes up the newest pair of that
    length that was made for this project, or makes one: what was encrypted before stays under the old one.

    \b
    ppdl key make
    ppdl key make --purpose inference
    ppdl key make --bits 2048 --public pub.json --private-dir ~/keys --passphrase
    """
    from ppdl.crypto.keys.keystore import ensure_keypair, load_public

    public = public or PUBLIC_PATHS[purpose]
    if bits is None:
        bits = load_public(public, None).key_bits if public.exists() else DEFAULT_BITS
    secret = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True) if passphrase else None
    outcome = ensure_keypair(
        public,
        private_dir,
        key_bits=bits,
        allow_insecure_key=allow_insecure_key,
        project=project_of(public),
        passphrase=secret,
        purpose=purpose,
    )
    click.echo(f"{purpose}: {outcome.message}")


def project_of(public: Path) -> Path:
    """Give the checkout that a public key file belongs to, else the file's folder."""
    folder = public.resolve().parent
    return next((path for path in (folder, *folder.parents) if (path / ".git").exists() or (path / ".dvc").is_dir()), folder)
