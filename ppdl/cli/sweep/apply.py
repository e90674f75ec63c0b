"""`ppdl sweep apply`."""

from __future__ import annotations

import shlex

import click

from ppdl.cli.keep import keep_and_show
from ppdl.cli.sweep.summary import best_of


@click.command()
@click.argument("folder", required=False)
def apply(folder: str | None) -> None:
    """Take over the best trial of a sweep: keep all values that it was given, drawn or on the command line, as `ppdl keep` does.

    FOLDER as for summary. What changes in params.yaml is said; `ppdl repro` then builds with it.
    """
    from ppdl.config.choices import is_choice
    from ppdl.errors import ConfigError

    name, best = best_of(folder)
    given = [text for text in shlex.split(best.run.tags.get("overrides", "")) if is_choice(text)]
    if not given:
        raise ConfigError(f"trial {best.run.tags.get('job')} of {name} has the values of conf/ alone: there is nothing to take over")
    click.echo(f"trial {best.run.tags.get('job')} of {name}, validation log loss {best.objective:.4g}")
    keep_and_show(given)
