"""`ppdl hospitals call`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Key holder: call a run, under a fresh key.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("invitation", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--card",
    "cards",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    required=True,
    help="Of the server and each hospital.",
)
@click.option("--head", default="pooled_head", show_default=True, help="Head of params.yaml whose backbone and rules the run takes.")
def call(folder: Path, invitation: Path, cards: tuple[Path, ...], head: str) -> None:
    """Call a run of those whose cards are named: a key pair for it alone, the public backbone, and INVITATION, a folder for all parties.

    Key length, backbone and rules are those of params.yaml (`ppdl keep` changes them). FOLDER is the key holder's; it agrees at once.

    \b
    ppdl hospitals call ~/pool invitation --card server.json --card anna.json --card berta.json --card clara.json
    """
    import tempfile

    from ppdl.config import build, checkout, read_params
    from ppdl.errors import ConfigError
    from ppdl.experiment.pooled import FEATURE_BITS
    from ppdl.experiment.public_backbone import write_backbone
    from ppdl.serving.hospitals.invitation import BACKBONE, KEY_HOLDER
    from ppdl.serving.hospitals.party import Party, facts_of, read_card

    values = read_params()
    if "pooling" not in (node := values["heads"].get(head, {})):
        raise ConfigError(f"heads.{head} of params.yaml is no pooled head: name one that has `pooling` (--head)")
    if node["pooling"].get("privacy"):
        raise ConfigError(f"heads.{head}.pooling.privacy: parties on machines of their own add no noise: set it to null (`ppdl keep`)")
    party, found = Party.load(folder), [read_card(path) for path in cards]
    num_films = sum(card.get("num_films", 0) for card in found)
    if party.role != KEY_HOLDER:
        raise ConfigError(f"{folder} is of a {party.role}, and the key holder calls a run")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / BACKBONE
        num_features = write_backbone(build(node["backbone"], f"heads.{head}.backbone"), num_films, path)
        rules = {
            "key_bits": values["keygen"]["key_bits"],
            "num_features": num_features,
            "feature_bits": FEATURE_BITS,
            "strengths": node["pooling"]["strengths"],
            "accept_membership": node["pooling"]["accept_membership"],
        }
        facts, insecure = facts_of(node["backbone"], values["prepared_px"], path), values["keygen"]["allow_insecure_key"]
        called = party.call(found, facts, rules, allow_insecure_key=insecure, project=checkout())
        called.write(invitation, path)
    party.agree(invitation)
    click.echo(f"{num_films} films of {len(called.terms.roster)} hospitals, {num_features} features; give {invitation} to all")
    click.echo(called.digest)
    if left := party.left_keys(called):
        click.echo(f"Private keys of runs that were never opened; delete what nobody will open: {', '.join(left)}")
