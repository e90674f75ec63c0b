"""`ppdl hospitals agree`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Check an invitation, and agree to it.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("invitation", type=click.Path(path_type=Path, file_okay=False))
def agree(folder: Path, invitation: Path) -> None:
    """Check the key holder's INVITATION against the party of FOLDER, and keep it for `ppdl hospitals run`. Nothing is sent.

    The line of 64 digits that it prints is the same for all parties: compare it with the key holder's by telephone.
    """
    from ppdl.serving.hospitals.party import Party

    party = Party.load(folder)
    with party.alone():
        found = party.agree(invitation)
    terms, averaging = found.terms, found.averaging
    films = ", ".join(f"{name} {num_films} films" for name, num_films in terms.films.items())
    if averaging:
        what = f"a network in {averaging.rounds} rounds, {averaging.epochs} passes each, updates of {averaging.bits} bits"
    else:
        what = f"{found.head.num_features} features"
    click.echo(f"{films}; {', '.join(found.class_names)}; {what}; key of {terms.key_bits} bits; {found.address}")
    if not averaging and found.head.accept_membership:
        click.echo("accept_membership: fewer than 16 films a feature may be opened, which tells the key holder whose films are there")
    click.echo(found.digest)
