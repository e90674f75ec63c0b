"""`ppdl artifact audit`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ppdl.audit.examination.verdict import BROKEN, LEAKY, UNBROKEN
from ppdl.cli.table import print_table

if TYPE_CHECKING:
    import numpy as np

    from ppdl.audit.examination.base import Attack, Target
    from ppdl.audit.folder.examine import FolderAudit

_NUM_PRIOR, _NUM_SCORED = 200, 20
_PRIOR_SEED = 1_000_003  # added to --seed, so that a set of phantoms under audit is not its own public images
_SHEET_IMAGES, _SHEET_PX = 8, 128
_FRAME = 160  # gray, since maps are white
_LEVELS = (UNBROKEN, LEAKY, BROKEN)


@click.command(short_help='Attack anybody\'s folder of "encrypted" images.')
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--originals", type=click.Path(path_type=Path), help="The images before encryption: same names, or same order.")
@click.option("--public-key", type=click.Path(path_type=Path), help="Of Paillier integers, as `pheutil extract` or `ppdl key` write it.")
@click.option("--size", nargs=2, type=click.IntRange(min=16), help="WIDTH HEIGHT of an image, where a text of integers does not say.")
@click.option("--prior", type=click.Path(path_type=Path), help="Public images of the same kind. Default: synthetic chest X-rays.")
@click.option("--max-images", type=click.IntRange(min=1), default=300, show_default=True, help="Read at most as many, evenly spaced.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures to this file.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write contact sheets into this folder, a new or an empty one: seen, rebuilt, original.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the attackers' random choices.")
@click.option("--fail-on", type=click.Choice(_LEVELS[1:]), help="Exit with 1 when the verdict is this, or worse.")
def audit(
    path: Path,
    originals: Path | None,
    public_key: Path | None,
    size: tuple[int, int] | None,
    prior: Path | None,
    max_images: int,
    json_path: Path | None,
    out: Path | None,
    seed: int,
    fail_on: str | None,
) -> None:
    """Attack a folder of "encrypted" images, and say whether they are confidential.

    PATH holds images of one size: PNG, JPEG, BMP, TIFF or WebP files, nested or not, or .npy or .npz arrays (images, height, width) or
    (images, height, width, channels) of integers or floats. With --public-key it holds Paillier ciphertexts, one for each pixel, as
    decimal or hexadecimal numbers: text (.txt, .csv), JSON of python-paillier (.json, .jsonl), or .npy or .npz arrays of text or integers.
    A line of a text is a row of pixels, and a blank line begins the next image. No private key is used. Where files lie in several folders
    below PATH, these are taken for classes, and it is tested whether ciphertexts tell them.

    With --originals, what attacks rebuild is compared with them; without, its structure is compared with what the same attack makes of the
    same pixels in random places, and attacks that need some of them are not run.

    The exit code is 0 for any verdict, unless --fail-on says otherwise; for what cannot be read it is 1.

    \b
    ppdl artifact audit encrypted/
    ppdl artifact audit encrypted/ --originals plain/ --out sheets/ --json audit.json
    ppdl artifact audit ciphertexts.npy --prior public-xrays/
    ppdl artifact audit ciphertexts.txt --public-key key.json --fail-on leaky
    """
    from ppdl.audit.folder.examine import ATTACKS, PAILLIER, WITH_ORIGINALS, audit_folder
    from ppdl.audit.folder.integers import Integers, holds_integers, read_integers, target_of_integers
    from ppdl.audit.folder.pictures import Pictures, classes_of, read_originals, read_pictures, read_prior, target_of_pictures
    from ppdl.crypto.keys.keyfile import load_public
    from ppdl.datasets.phantoms.public import public_phantoms
    from ppdl.errors import ConfigError

    if out is not None and out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out {out}: must be a new or an empty folder, so that no sheet of another audit lies among those of this one")
    if public_key is not None or size is not None or holds_integers(path):
        key = None if public_key is None else load_public(public_key, None)
        found: Pictures = read_integers(path, key, size, max_images=max_images)
    else:
        found = read_pictures(path, max_images=max_images)
    truth = None if originals is None else read_originals(originals, found, max_images=max_images)
    height, width = found.values.shape[1:3]
    if prior is None:
        click.echo(f"drawing {_NUM_PRIOR} synthetic chest X-rays for the attacker to compare with (--prior gives others)", err=True)
        public = public_phantoms(_NUM_PRIOR, height, width, seed=seed + _PRIOR_SEED)
    else:
        public = read_prior(prior, height, width)
    names: tuple[str, ...] = ATTACKS + WITH_ORIGINALS
    if isinstance(found, Integers):
        target, names = target_of_integers(path.name, found, public), names + PAILLIER
    else:
        target = target_of_pictures(path.name, found.values, public)
    result = audit_folder(_attacks(names), replace(target, labels=classes_of(found.names)), truth, seed=seed)
    _print_result(
        result, f"{path}: {target.num_images} of {found.num_found} images, {width} x {height} px", with_originals=truth is not None
    )
    click.echo(f"{result.level}: {result.sentence}")
    if json_path is not None:
        about = {"path": str(path), "num_images": target.num_images, "num_found": found.num_found, "height": height, "width": width}
        about |= {"seed": seed, "with_originals": truth is not None}
        about |= {"public_key": found.public_key.fingerprint} if isinstance(found, Integers) else {}
        report = {**about, "attacks": result.results, "verdict": {"level": result.level, "sentence": result.sentence}}
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    if out is not None:
        _write_sheets(out, target, result, truth)
    if fail_on is not None and _LEVELS.index(result.level) >= _LEVELS.index(fail_on):
        raise SystemExit(1)


def _attacks(names: tuple[str, ...]) -> "dict[str, Attack]":
    """Build attacks as conf/attack configures them."""
    import yaml

    from ppdl.config import CONF, build

    files = {name: CONF / "attack" / f"{name}.yaml" for name in names}
    return {name: build(yaml.safe_load(file.read_text()), str(file), {"num_scored": _NUM_SCORED}) for name, file in files.items()}


def _print_result(result: "FolderAudit", title: str, *, with_originals: bool) -> None:
    from ppdl.audit.folder.examine import meaning

    numbers = ("psnr, dB", "ssim", "null") if with_originals else ("structure", "null")
    keys = ("psnr", "ssim", "ssim_null") if with_originals else ("structure", "structure_null")
    rows = [
        [name, row["knowledge"], *("" if row.get(key) is None else f"{row[key]:.2f}" for key in keys), meaning(row)]
        for name, row in result.results.items()
    ]
    caption = "null: the same attack on the same pixels in random places"
    print_table(title, ["attack", "knowledge", *numbers, "what it means"], rows, right=numbers, caption=caption)


def _write_sheets(out: Path, target: "Target", result: "FolderAudit", originals: "np.ndarray | None") -> None:
    """Write a picture for each attack that returned images: a row an image of what a thief sees, what was rebuilt, the original."""
    import numpy as np
    from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    for name, rebuilt in result.rebuilt.items():
        rows = rebuilt.rows[:_SHEET_IMAGES]
        seen = np.asarray(target.picture[rows])
        columns = [seen if seen.ndim == 4 else seen[..., None], rebuilt.images[: len(rows), ..., None]]
        if originals is not None:
            columns.append(originals[rows][..., None])
        framed = [np.pad(column, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=_FRAME) for column in columns]
        sheet = np.concatenate([np.broadcast_to(column, (*column.shape[:3], 3)) for column in framed], axis=2)
        sheet = sheet.reshape(-1, sheet.shape[2], 3)
        zoom = max(1, _SHEET_PX // target.width)
        Image.fromarray(sheet.repeat(zoom, 0).repeat(zoom, 1)).save(out / f"{name}.png")
    click.echo(f"wrote {len(result.rebuilt)} contact sheets to {out}: seen | rebuilt{' | original' if originals is not None else ''}")
