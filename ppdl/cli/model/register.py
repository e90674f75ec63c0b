"""`ppdl model register`."""

from __future__ import annotations

import click

from ppdl.cli.store import checkout_store


@click.command(short_help="Put the best run of each protection into MLflow's registry.")
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("--promote", is_flag=True, help="Make it champion also where the present one is of other data or another key.")
def register(names: tuple[str, ...], promote: bool) -> None:
    """Register the best run of each protection (or of NAMEs: plain, deterministic ...) as ppdl-NAME, with its model card.

    Best is the lowest log loss on the validation images, never a test figure, among the finished runs on the data and artifacts that lie in
    this checkout. Alias `champion` moves only to a version that is better on the same data and under the same key. Registering what
    is registered makes no second version. The models take raw images: `ppdl predict`, `mlflow models serve`.

    \b
    ppdl model register
    ppdl model register plain
    """
    store = checkout_store()

    from ppdl.config import checkout, read_params
    from ppdl.errors import TrackingError
    from ppdl.prediction.registering import register_best

    done = list(register_best(store, read_params(), checkout(), names, promote=promote))
    for what in done:
        click.echo(what.words)
    if not any(what.registration for what in done):
        raise TrackingError(f"{store.shown} has no run that could be registered: run `dvc repro` first")
