"""`ppdl hospitals call`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

Values = Mapping[str, Any]
Cards = Sequence[Mapping[str, Any]]


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
@click.option("--federation", help="In place of a head: federation of params.yaml whose rules the run takes, with its model and training.")
def call(folder: Path, invitation: Path, cards: tuple[Path, ...], head: str, federation: str | None) -> None:
    """Call a run of those whose cards are named: a key pair, the public backbone or network, and INVITATION, a folder for all parties.

    Key length and rules are those of params.yaml (`ppdl keep` changes them). FOLDER is the key holder's; it agrees at once.

    \b
    ppdl hospitals call ~/pool invitation --card server.json --card anna.json --card berta.json --card clara.json
    """
    import tempfile

    from ppdl.config import checkout, read_params
    from ppdl.errors import ConfigError
    from ppdl.serving.hospitals.invitation import KEY_HOLDER
    from ppdl.serving.hospitals.party import Party, facts_of, read_card

    values = read_params()
    party, found = Party.load(folder), [read_card(path) for path in cards]
    if party.role != KEY_HOLDER:
        raise ConfigError(f"{folder} is of a {party.role}, and the key holder calls a run")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "model.keras"
        write = partial(_write_network, federation) if federation else partial(_write_backbone, head)
        model, rules, told = write(values, found, path)
        facts, keygen = facts_of(model, values["prepared_px"], path), values["keygen"]
        rules |= {"key_bits": keygen["key_bits"]}
        called = party.call(found, facts, rules, allow_insecure_key=keygen["allow_insecure_key"], project=checkout())
        called.write(invitation, path)
    party.agree(invitation)
    click.echo(f"{sum(called.terms.films.values())} films of {len(called.terms.roster)} hospitals, {told}; give {invitation} to all")
    click.echo(called.digest)
    if left := party.left_keys(called):
        click.echo(f"Private keys of runs that were never opened; delete what nobody will open: {', '.join(left)}")


def _write_backbone(head: str, values: Values, cards: Cards, path: Path) -> tuple[Values, dict[str, Any], str]:
    """Write the backbone of a head, and return what makes it, the run's rules, and what to say."""
    from ppdl.config import build
    from ppdl.errors import ConfigError
    from ppdl.experiment.pooled import FEATURE_BITS
    from ppdl.experiment.public_backbone import write_backbone

    if "pooling" not in (node := values["heads"].get(head, {})):
        raise ConfigError(f"heads.{head} of params.yaml is no pooled head: name one that has `pooling` (--head)")
    if node["pooling"].get("privacy"):
        raise ConfigError(f"heads.{head}.pooling.privacy: parties on machines of their own add no noise: set it to null (`ppdl keep`)")
    num_films = sum(card.get("num_films", 0) for card in cards)
    num_features = write_backbone(build(node["backbone"], f"heads.{head}.backbone"), num_films, path)
    rules = {name: node["pooling"][name] for name in ("strengths", "accept_membership")}
    return node["backbone"], rules | {"num_features": num_features, "feature_bits": FEATURE_BITS}, f"{num_features} features"


def _write_network(name: str, values: Values, cards: Cards, path: Path) -> tuple[Values, dict[str, Any], str]:
    """Write the network that a federation starts from; for the rest see `_write_backbone`."""
    from ppdl.config import build
    from ppdl.errors import ConfigError
    from ppdl.experiment.averaging_party import Plan, write_network
    from ppdl.serving.hospitals.party import class_names

    if name not in values["federations"]:
        raise ConfigError(f"params.yaml has no federations.{name}: `ppdl keep +experiment=federated` adds one")
    averaging, training = build(values["federations"][name], f"federations.{name}"), build(values["training"], "training")
    px, seed = values["input_px"], values["seed"]
    write_network(build(values["model"], "model"), px, len(class_names(cards)), seed, path)
    return {**values["model"], "input_px": px}, {"plan": Plan.tree(averaging, training, seed)}, f"{averaging.rounds} rounds"
