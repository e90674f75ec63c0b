"""`ppdl predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ppdl.cli.answers import finish, print_answers

if TYPE_CHECKING:
    from ppdl.prediction.network import Network
    from ppdl.prediction.predict import FileAnswers


@click.command(short_help="What a trained network says of IMAGEs.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", help="models:/NAME@ALIAS, or a folder such as models/plain/pixels.  [default: what `dvc repro` built]")
@click.option("--protection", help="Use the network that was trained on this protection.  [default: plain]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--gradcam", type=click.Path(path_type=Path, file_okay=False), help="Write to this folder, as PNG, where the network looked.")
@click.option("--server", metavar="URL", help="Ask a `ppdl serve`: it gets encrypted features and sees neither image nor answer.")
@click.option("--private-key", type=click.Path(path_type=Path), help="With --server: yours.  [default: that of keys/inference.json]")
@click.option(
    "--backbone",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("models/private_head"),
    show_default=True,
    help="With --server: folder of the public backbone.keras.",
)
@click.option("--token-file", type=click.Path(path_type=Path), help="With --server: file of your token.  [default: $PPDL_TOKEN]")
@click.option("--ca-file", type=click.Path(path_type=Path), help="With --server: certificates to trust, PEM.")
@click.option("--insecure-http", is_flag=True, help="With --server: admit http:// to another machine.")
def predict(
    images: tuple[Path, ...],
    model: str | None,
    protection: str | None,
    as_json: bool,
    gradcam: Path | None,
    server: str | None,
    private_key: Path | None,
    backbone: Path,
    token_file: Path | None,
    ca_file: Path | None,
    insecure_http: bool,
) -> None:
    """Say what a trained network makes of image files: PNG, JPEG, DICOM and what else the datasets read.

    Each file is prepared and, for a protected model, encrypted, filtered and revealed by the same steps as in training; `homomorphic` needs
    the private key on this machine. Probabilities are calibrated on the validation images. Not for diagnosis.

    \b
    ppdl predict x-ray.png
    ppdl predict *.dcm --protection deterministic --json
    ppdl predict x-ray.png --model models:/ppdl-plain@champion --gradcam looked/
    ppdl predict x-ray.png --server https://HOST:8443 --token-file token
    """
    import os
    import tempfile

    from ppdl.config import checkout, private_dir, read_params

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # on a machine with a GPU, TensorFlow would print ten lines above the answer
    if server is not None:
        from ppdl.cli.predict_remote import ask_server

        if given := [
            name for name, value in (("--model", model), ("--protection", protection), ("--gradcam", gradcam)) if value is not None
        ]:
            raise click.UsageError(f"{given[0]} is for networks on this machine, --server for one elsewhere: leave one of them out")
        ask_server(server, images, private_key, backbone, token_file, ca_file, insecure_http=insecure_http, as_json=as_json)
        return
    named = model is not None and not model.startswith("models:/")  # a folder, which is read without a checkout
    config = {} if named else read_params()  # before what an extra brings: it would be installed in vain

    from ppdl.prediction.predict import as_json as json_of
    from ppdl.prediction.predict import find_network, predict_files, refuse_overlays, write_overlays
    from ppdl.protections.context import KeyHolder

    key_holder = KeyHolder(private_dir(), checkout())
    with tempfile.TemporaryDirectory(prefix="ppdl-") as folder:
        network = find_network(model, protection, root=checkout(), config=config, folder=Path(folder))
        if gradcam is not None:
            refuse_overlays(network, gradcam)
        found = predict_files(network, images, key_holder)
        if as_json:
            click.echo(json.dumps(json_of(network, found), indent=1))
        elif found.rows:
            print_answers(_title(network), network.recipe.class_names, found, *_notes(network, found))
        if gradcam is not None:
            for path in write_overlays(network, found, gradcam):
                click.echo(f"wrote {path}", err=True)
    finish(found)


def _notes(network: Network, found: FileAnswers) -> list[str]:
    """Say what probabilities rest on, and what was not looked at."""
    notes = []
    if origin := network.calibration.set_by:
        notes.append(f"calibrated on {origin}: on films of other devices probabilities may be too sure")
    elif network.temperature == 1:
        notes.append("not calibrated: the validation images were too few, or none of them was wrong")
    if all(row.unlike is None for row in found.rows):
        notes.append("not known: whether an image is like the training set, for want of validation images or of features to tell it by")
    return notes


def _title(network: Network) -> str:
    recipe = network.recipe
    return f"{recipe.protection}, view {recipe.view}" + (f", key {recipe.key_fingerprint[:16]}" if recipe.key_fingerprint else "")
