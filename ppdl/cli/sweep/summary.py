"""`ppdl sweep summary`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ppdl.cli.store import checkout_store

if TYPE_CHECKING:
    from ppdl.tracking.query import StoredRun

ACCURACY = "fit/best_val_accuracy"
MEASURED = ("job", "state", "log loss", "acc, %", "epochs", "s")  # columns of what came out, left of what was set
DONE = "done"  # state of a trial that came to its end
RUN = "run"  # stands among the parameters where a sweep has runs of several names


@dataclass(frozen=True)
class Trial:
    """Hold one training of a sweep.

    Attributes:
        values: of each parameter that varies in the sweep, as text.
        objective: what the sweep minimises; infinite where training diverged, None where it is not known.
        state: done, pruned, diverged, or what else became of it.
    """

    run: StoredRun
    values: Mapping[str, str]
    objective: float | None
    state: str

    @property
    def is_finite(self) -> bool:
        return self.objective is not None and math.isfinite(self.objective)


@click.command()
@click.argument("folder", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def summary(folder: str | None, as_json: bool) -> None:
    """Show the trials of a sweep, best first, and what mattered of the values that Optuna drew.

    FOLDER is the sweep's, such as multirun/2026-01-31/12-00-00, also the tag `sweep` of its runs; by default that of the newest run.
    What is compared is the log loss on validation images, in nats, of the weights that a training kept.
    """
    name, trials = ranked(folder)

    from ppdl.config import checkout
    from ppdl.tracking.runs.sweep import importances

    importance = importances(checkout() / name)
    if as_json:
        found = {"sweep": name, "trials": [_as_json(trial) for trial in trials], "importance": importance}
        click.echo(json.dumps(found, indent=1))
        return
    _show(name, trials)
    if importance:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in importance.items())
        click.echo(f"How much each value mattered, by Optuna (by a dozen trials this is chance): {shares}")
    if trials[0].state == DONE:
        click.echo(f"The best of several flatters itself on the images that it was chosen by. To test it, once: ppdl sweep test {name}")
        click.echo(f"To take it over, with all that it was given: ppdl sweep apply {name}")


def ranked(folder: str | None) -> tuple[str, list[Trial]]:
    """Return the name of a sweep, and its trials on the data of its newest: those that came to their end, then the others, best first."""
    store = checkout_store()

    from ppdl.tracking.query import on_data
    from ppdl.tracking.runs.sweep import find_sweep

    name, found = find_sweep(store, folder)
    runs, left_out = on_data(found, found[-1].tags.get("data_sha256"))
    if left_out:
        click.echo(f"{name} has trials of more than one data set, whose log losses do not compare. {left_out}", err=True)
    return name, sorted(trials_of(runs), key=lambda trial: (trial.state != DONE, math.inf if trial.objective is None else trial.objective))


def best_of(folder: str | None) -> tuple[str, Trial]:
    """Return the name of a sweep, and its best trial of those that came to their end. Raises: TrackingError: there is none."""
    from ppdl.errors import TrackingError

    name, (best, *_) = ranked(folder)
    if best.state != DONE or not best.is_finite:
        raise TrackingError(f"the sweep {name} has no finished trial: see `ppdl sweep summary {name}`")
    return name, best


def trials_of(runs: list[StoredRun]) -> list[Trial]:
    """Return what is compared of each run."""
    from ppdl.tracking.runs.sweep import OBJECTIVE, PRUNED

    several = len({run.name for run in runs}) > 1
    params = [{**run.params, **({RUN: run.name} if several else {})} for run in runs]
    varying = [name for name in sorted(set().union(*params)) if len({row.get(name) for row in params}) > 1]
    names = [name for name in varying if not (several and name == "branch")]  # a run's name says its branch
    found = []
    for run, values in zip(runs, params, strict=True):
        state = {"FINISHED": PRUNED if PRUNED in run.tags else DONE}.get(run.status, run.status.lower())
        objective = run.metrics.get(OBJECTIVE)
        if run.tags.get("failure", "").startswith("DivergedError"):
            state, objective = "diverged", math.inf
        found.append(Trial(run, {name: values[name] for name in names if name in values}, objective, state))
    return found


def _show(name: str, trials: list[Trial]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    names = sorted({key for trial in trials for key in trial.values})
    table = Table(title=f"{name}: {len(trials)} trials, best first", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in (*MEASURED, *headings(names)):
        table.add_column(heading, justify="left" if heading == "state" else "right", overflow="fold")
    for trial in trials:
        run = trial.run
        measured = (
            number(trial.objective, ".3f"),
            number(run.metrics.get(ACCURACY), ".1%").rstrip("%"),
            number(run.metrics.get("fit/num_epochs"), ".0f"),
            number(run.metrics.get("fit/seconds", run.seconds), ".0f"),
        )
        values = (_value(trial.values.get(key, "")) for key in names)
        table.add_row(run.tags.get("job", ""), trial.state, *measured, *values)
    console = Console()
    Console(width=console.width if console.is_terminal else 120).print(table)


def headings(names: Sequence[str]) -> list[str]:
    """Return a heading for each parameter: its last part, or all of it where another column is called so."""
    last = [name.rsplit(".", 1)[-1] for name in names]
    taken = Counter([*MEASURED, *last])
    return [(short if taken[short] == 1 else name).replace("_", "_\n") for name, short in zip(names, last, strict=True)]


def _as_json(trial: Trial) -> dict[str, Any]:
    run = trial.run
    return {
        "job": int(run.tags["job"]) if "job" in run.tags else None,
        "run": run.name,
        "state": trial.state,
        "val_log_loss": trial.objective if trial.is_finite else None,
        "val_accuracy": run.metrics.get(ACCURACY),
        "num_epochs": run.metrics.get("fit/num_epochs"),
        "seconds": run.metrics.get("fit/seconds", run.seconds),
        "params": {key: value for key, value in trial.values.items() if key != RUN},
    }


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _value(text: str) -> str:
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text
