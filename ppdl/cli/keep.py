"""`ppdl keep`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click


@click.command(short_help="Keep values of your own for all commands.", context_settings={"ignore_unknown_options": True})
@click.argument("overrides", nargs=-1)
def keep(overrides: tuple[str, ...]) -> None:
    """Keep values of your own, so that each further `dvc exp run`, sweep and cross-validation has them; show those that are kept.

    OVERRIDES are Hydra's, as behind `-S`: NAME=VALUE, GROUP=FILE, +experiment=NAME, '~protections.opaque'. They go to
    conf/local/default.yaml, which git ignores, and params.yaml follows, so that `dvc repro` builds with them. Delete that file, and run
    `python -m ppdl.config --write`, to have none again; leave them out of one command with '~local'.

    \b
    ppdl keep dataset=folder dataset.root=/data/xrays
    ppdl keep +experiment=transfer dataset.root=/data/xrays 'dataset.classes=[Normal,COVID]'
    """
    from ppdl.config import choices, place, read_params

    read_params()  # or this is no checkout
    if overrides:
        keep_and_show(overrides)
        return
    text = shlex.join(choices.kept().overrides())
    click.echo(f"kept in conf/{choices.LOCAL}: {text}" if text else f"nothing is kept: there is no {place.CONF / choices.LOCAL}")


def keep_and_show(overrides: Sequence[str]) -> None:
    """Keep overrides, and say what they change. Raises: ConfigError: they cannot be kept; nothing is written then."""
    from ppdl.config import choices, compose_params, differing, place, read_params

    before = read_params()
    kept = choices.keep(overrides)
    compose_params(place.PARAMS)
    click.echo(f"kept in conf/{choices.LOCAL}: {shlex.join(kept.overrides()) or 'nothing beside the values that conf/ has'}")
    changes = differing(before, read_params())
    for name, (old, new) in changes.items():
        click.echo(f"  params.yaml: {name}: {old!r} -> {new!r}")
    if changes:
        click.echo("Build with it: ppdl repro")
