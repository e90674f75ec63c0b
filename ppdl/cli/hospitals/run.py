"""`ppdl hospitals run`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ppdl.serving.hospitals.invitation import Invitation
    from ppdl.serving.hospitals.party import Party


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
    """Take part in the run that the party of FOLDER agreed to last, until the head or network lies there.

    Killed or cut off, the same command goes on where it was. A party that declines says why here, and tells the others that it did.
    """
    from ppdl.serving.hospitals.invitation import SERVER
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
            from ppdl.config import checkout
            from ppdl.serving.hospitals.desk import Desk

            course = _course(party, invitation, own, say)
            join(party, invitation, Desk(party, invitation, course, checkout()), say, patience_s=patience_s)
    what = invitation.outcome
    if party.role == SERVER:
        say(f"done: all have the {what}, {own / 'board' / str(invitation.num_sums - 1) / 'opened.json'}")
    elif (own / what).exists():
        say(f"done: the {what} is {own / what}")
    else:
        say(f"done: all hospitals have the {what}")


def _course(party: Party, invitation: Invitation, own: Path, say: Callable[[str], None]) -> Any:
    """Return how the party follows the run."""
    from ppdl.experiment.averaging_party import HospitalCourse, KeyHolderCourse, Plan
    from ppdl.experiment.pooled import own_films
    from ppdl.prediction.recipe import PLAIN, Recipe
    from ppdl.serving.hospitals.course import HeadCourse
    from ppdl.serving.hospitals.invitation import HOSPITAL

    model, films, file = invitation.model, party.folder / "films", own / invitation.file
    if invitation.averaging is None or invitation.plan is None:
        sides = model["input_px"], model["prepared_px"]
        return HeadCourse(invitation, own, partial(own_films, films, file, *sides, list(invitation.class_names)))
    plan = Plan.of(invitation.averaging, invitation.plan, model, file)
    recipe = Recipe(PLAIN, "pixels", tuple(invitation.class_names), plan.prepared_px, plan.px, None, invitation.digest, {})
    if party.role == HOSPITAL:
        about: dict[str, Any] = {"name": party.name, "films": films, "digest": invitation.digest, "recipe": recipe.write}
        return HospitalCourse(invitation.terms, plan, own, say, **about)
    return KeyHolderCourse(invitation.terms, plan, own, say)
