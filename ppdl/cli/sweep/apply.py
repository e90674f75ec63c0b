"""`ppdl sweep apply`."""

from __future__ import annotations

import shlex

import click

from ppdl.cli.keep import keep_and_show
from ppdl.cli.sweep.summary import best_of, number


@click.command()
@click.argument("folder", required=False)
def apply(folder: str | None) -> None:
    """Take over the best trial of a sweep: keep all values that it was given, drawn or on the command line, as `ppdl keep` does.

    FOLDER as for summary. What changes in params.yaml is said; `ppdl repro` then builds with it.
    """
    name, best = best_of(folder)

    from ppdl.config import checkout
    from ppdl.config.choices import is_choice
    from ppdl.errors import ConfigError
    from ppdl.tracking.runs.record import read_record
    from ppdl.tracking.runs.sweep import OBJECTIVE

    given = [text for text in shlex.split(best.run.tags.get("overrides", "")) if is_choice(text)]
    if not given:
        raise ConfigError(f"trial {best.run.tags.get('job')} of {name} has the values of conf/ alone: there is nothing to take over")
    built = checkout() / "models" / best.run.tags.get("protection", "") / best.run.tags.get("view", "") / "run.json"
    record = read_record(built) if built.is_file() else None
    compares = record is not None and record.tags.get("data_sha256") == best.run.tags.get("data_sha256")
    now = number(record.metrics.get(OBJECTIVE), ".4g") if record is not None and compares else ""
    beside = (
        f"; what is built has {now}" if now else "" if record is None or compares else "; what is built is of other images or another split"
    )
    click.echo(f"trial {best.run.tags.get('job')} of {name}, validation log loss {best.objective:.4g}{beside}")
    keep_and_show(given)
