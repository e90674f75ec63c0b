"""`ppdl artifact verify`."""

from pathlib import Path

import click


@click.command(short_help="Check every byte of ARTIFACT.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--public", type=click.Path(path_type=Path), help="Public key: also check that every ciphertext is below n^2.")
@click.option("--signed-by", type=click.Path(path_type=Path), multiple=True, help="Public key file of a signer; one of several will do.")
def verify(artifact: Path, public: Path | None, signed_by: tuple[Path, ...]) -> None:
    """Check every byte of ARTIFACT, also of a revealed view, against its header.

    Without --signed-by this finds damage, not forgery: whoever can write the folder can write a header that fits. With it, the header must
    be signed by one of these keys. An older artifact of the same signer passes too.

    \b
    ppdl artifact verify data/encrypted/deterministic
    ppdl artifact verify data/encrypted/deterministic --public keys/public.json
    ppdl artifact verify data/encrypted/deterministic --signed-by signers/source.json
    """
    signer = None
    if signed_by:
        from ppdl.crypto.signing import check_signed

        signer = check_signed(artifact, signed_by)
    summary = check_bytes(artifact, public)
    click.echo(f"{artifact}: intact: {summary}" + (f", signed by {signer}" if signer else ""))


def check_bytes(folder: Path, public: Path | None) -> str:
    """Check every byte of an artifact, or of a revealed view, against its header.

    Args:
        public: file of a public key, which ciphertexts must be below the square of.

    Returns:
        What it holds, in a few words.

    Raises:
        ArtifactError: neither of both, or damage.
    """
    from tqdm import tqdm

    from ppdl.crypto.artifact.reading import open_artifact
    from ppdl.crypto.keys.keystore import load_public
    from ppdl.errors import ConfigError
    from ppdl.protections.steps.revealed import VIEW_FILE, read_revealed

    if (folder / VIEW_FILE).exists():
        if public:
            raise ConfigError(f"{folder}: --public is for ciphertexts, and this is a revealed view; leave it out")
        view = read_revealed(folder)
        return f"a view of {len(view.array)} images, key {view.header.key_fingerprint}"
    opened = open_artifact(folder)
    public_key = load_public(public) if public else None
    with tqdm(total=opened.header.total_bytes, desc="verify", unit="B", unit_scale=True) as bar:
        opened.verify(public_key, on_bytes=bar.update)
    header = opened.header
    return f"{len(header.shards)} shards, {header.total_bytes} bytes, key {header.key.fingerprint}"
