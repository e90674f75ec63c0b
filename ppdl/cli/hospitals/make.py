"""`ppdl hospitals make`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command(short_help="Make a party's folder: its keys, and its card for the others.")
@click.argument("role", type=click.Choice(["server", "hospital", "key-holder"]))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", help="Hospital: the name that it goes by, 1 to 40 of a-z, 0-9, - and _.")
@click.option("--films", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Hospital: folder of its prepared images.")
@click.option("--address", help="Server: HOST:PORT at which the others reach it.")
@click.option("--days", type=click.IntRange(1, 825), default=90, show_default=True, help="Server: how long its certificate is valid.")
def make(role: str, folder: Path, name: str | None, films: Path | None, address: str | None, days: int) -> None:
    """Make a party's FOLDER, outside of the checkout and closed to others, with its keys, and FOLDER/card.json for the key holder.

    A card holds public keys, and of a hospital the number of its films and the names of their classes. Nothing else leaves here yet.

    \b
    ppdl hospitals make server ~/pool --address pool.example.org:9443
    ppdl hospitals make hospital ~/pool --name anna --films data/prepared
    ppdl hospitals make key-holder ~/pool
    """
    from ppdl.config import checkout
    from ppdl.datasets.prepared.arrays import load_prepared
    from ppdl.serving.hospitals.party import make_party

    if role != "hospital" and (name or films):
        raise click.UsageError("--name and --films are a hospital's")
    if role != "server" and address:
        raise click.UsageError("--address is the server's")
    card: dict[str, Any] = {"role": role, "name": name or role}
    if role == "hospital":
        if name is None or films is None:
            raise click.UsageError("a hospital needs --name and --films")
        prepared = load_prepared(films)
        card |= {"num_films": len(prepared.rows("train", "validation")), "num_train_films": len(prepared.rows("train"))}
        card["class_names"] = list(prepared.class_names)
    elif role == "server":
        if address is None:
            raise click.UsageError("the server needs --address")
        card["address"] = address
    path = make_party(folder, card, checkout(), films=films, days=days)
    click.echo(f"{'made' if role == 'key-holder' else 'give the key holder'} {path}; the rest of {folder} is secret")
