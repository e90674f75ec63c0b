"""`ppdl hospitals run`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click


@click.command(short_help="Take part in the run that was agreed to.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--listen", metavar="HOST:PORT", help="Server: where to listen.  [default: its address]")
@click.option(
    "--patience",
    "patience_s",
    type=click.FloatRange(min=1),
    default=3600,
    show_default=True,
    help="Seconds that another may be away.",
)
def run(folder: Path, listen: str | None, patience_s: float) -> None:
    """Take part in the run that the party of FOLDER agreed to last, until the head lies there.

    Killed or cut off, the same command goes on where it was. A party that declines says why here, and tells the others that it did.
    """
    from ppdl.serving.hospitals.invitation import BACKBONE, SERVER
    from ppdl.serving.hospitals.party import Party

    party = Party.load(folder)
    invitation = party.agreed()
    own, say = party.run_folder(invitation), click.echo
    with party.alone():
        from ppdl.serving.hospitals.link import join, serving

        if party.role == SERVER:
            from ppdl.serving.hospitals.conduct import conduct

            with serving(party, invitation, say, listen=listen or invitation.address, patience_s=patience_s) as queue:
                conduct(own / "board", invitation, queue.ask)
            for name, (came, went) in queue.traffic.items():
                say(f"traffic {name}: {came} bytes came, {went} went")
        else:
            from ppdl.experiment.pooled import own_films
            from ppdl.serving.hospitals.desk import Desk

            facts, names = invitation.backbone, invitation.subject.class_names
            films = partial(own_films, folder / "films", own / BACKBONE, facts["input_px"], facts["prepared_px"], list(names))
            join(party, invitation, Desk(party, invitation, films), say, patience_s=patience_s)
    say(f"done: all have the head, {own / 'board/opened.json'}" if party.role == SERVER else f"done: the head is {own / 'head'}")
