"""`ppdl verify`."""

from pathlib import Path

import click


@click.command(short_help="Check every byte of ARTIFACT.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--public", type=click.Path(path_type=Path), help="Public key: also check that every ciphertext is below n^2.")
def verify(artifact: Path, public: Path | None) -> None:
    """Check every byte of ARTIFACT against its header.

    This finds damage, not forgery: whoever can write the folder can write a header that fits.

    \b
    ppdl verify data/encrypted/deterministic
    ppdl verify data/encrypted/deterministic --public keys/public.json
    """
    from tqdm import tqdm

    from ppdl.crypto.artifact import open_artifact
    from ppdl.crypto.keystore import load_public

    opened = open_artifact(artifact)
    public_key = load_public(public) if public else None
    with tqdm(total=opened.header.total_bytes, desc="verify", unit="B", unit_scale=True) as bar:
        opened.verify(public_key, on_bytes=bar.update)
    header = opened.header
    click.echo(f"{artifact}: intact: {len(header.shards)} shards, {header.total_bytes} bytes, key {header.key.fingerprint}")
