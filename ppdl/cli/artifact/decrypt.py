"""`ppdl artifact decrypt`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np

    from ppdl.crypto.keys.keypair import PrivateKey


@click.command(short_help="Decrypt ARTIFACT to PNG files.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--private-key", required=True, type=click.Path(path_type=Path), help="File of the private key.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for image-NNNNNN.png.")
@click.option("--threads", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="all cores", help="Threads that decrypt.")
def decrypt(artifact: Path, private_key: Path, out: Path, threads: int) -> None:
    """Decrypt ARTIFACT to 8-bit gray PNG files, bit by bit the images that were encrypted, numbered in their order.

    Fingerprint and canary are checked first. The folder appears, readable by you alone, when all images have been checked against the
    SHA-256 that was encrypted with them. A protected key file asks for its passphrase, or takes it from PPDL_PRIVATE_KEY_PASSPHRASE.

    \b
    ppdl artifact decrypt data/encrypted/deterministic --private-key ~/.local/share/ppdl/keys/FINGERPRINT.json --out images
    """
    import shutil
    import tempfile

    from tqdm import tqdm

    from ppdl.crypto.artifact.reading import open_artifact
    from ppdl.crypto.decrypt import decrypt_images
    from ppdl.crypto.keys.purpose import ARCHIVE
    from ppdl.errors import ArtifactError

    opened = open_artifact(artifact)
    if out.exists():
        raise ArtifactError(f"{out}: images are written to a new folder, found one that exists; choose another or remove it")
    key = load_key(private_key, ARCHIVE)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        with tqdm(total=opened.header.num_ciphertexts, desc="decrypt", unit="ciphertext") as bar:
            for first, images in decrypt_images(opened, key, num_threads=threads, on_ciphertexts=bar.update):
                write_images(partial, first, images)
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial)
        raise
    click.echo(f"{out}: {opened.header.source.num_images} images, equal to those that were encrypted")


def load_key(path: Path, purpose: str) -> "PrivateKey":
    """Load a private key, asking for its passphrase where it needs one. Raises: as load_private."""
    from ppdl.crypto.keys.keyfile import PASSPHRASE_VARIABLE, load_private, read_members

    if "protected" in read_members(path, private=True) and not os.environ.get(PASSPHRASE_VARIABLE):
        return load_private(path, click.prompt("Passphrase", hide_input=True, err=True), purpose=purpose)
    return load_private(path, purpose=purpose)


def write_images(folder: Path, first: int, images: "np.ndarray") -> None:
    """Write images (num_images, height, width) uint8 as image-NNNNNN.png, from number `first` on."""
    from PIL import Image

    for index, image in enumerate(images, first):
        Image.fromarray(image).save(folder / f"image-{index:06d}.png")
