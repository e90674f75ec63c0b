"""`ppdl sweep summary`."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ppdl.cli.store import checkout_store

if TYPE_CHECKING:
    from ppdl.evaluation.figures.sweep import Importance, Trial
    from ppdl.tracking.query import StoredRun

ACCURACY = "fit/best_val_accuracy"
RUN = "run"  # stands among the parameters where a sweep has runs of several names


@click.command()
@click.argument("folder", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The figure: PNG, SVG or PDF by its suffix.  [default: sweep.png in the sweep's folder]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def summary(folder: str | None, out: Path | None, as_json: bool) -> None:
    """Show the trials of a sweep, best first, and which parameters mattered.

    FOLDER is the sweep's, such as multirun/2026-01-31/12-00-00, also the tag `sweep` of its runs; by default that of the newest run.
    What is compared is the log loss on validation images, in nats, of the weights that a training kept.
    """
    from ppdl.config import checkout
    from ppdl.evaluation.figures.sweep import importance, plot_sweep
    from ppdl.tracking.runs.sweep import find_sweep

    name, runs = find_sweep(checkout_store(), folder)
    rows = sorted(zip(trials_of(runs), runs, strict=True), key=lambda row: math.inf if row[0].objective is None else row[0].objective)
    trials = [trial for trial, _ in rows]
    found = importance(trials)
    if as_json:
        click.echo(json.dumps(_as_json(name, rows, found), indent=1))
    else:
        _show(name, rows, found)
    if trials[0].values and _is_finite(trials[0]):
        out = out or (checkout() / name if (checkout() / name).is_dir() else Path()) / "sweep.png"
        out.parent.mkdir(parents=True, exist_ok=True)
        plot_sweep(trials, found, title=f"{name}: {len(trials)} trials", objective="validation log loss").savefig(out, dpi=150)
        click.echo(f"wrote {out}", err=as_json)


def trials_of(runs: list[StoredRun]) -> list[Trial]:
    """Return what is compared of each run."""
    from ppdl.evaluation.figures.sweep import DIVERGED, DONE, PRUNED, Trial, varying
    from ppdl.tracking.runs.sweep import OBJECTIVE

    several = len({run.name for run in runs}) > 1
    params = [{**run.params, **({RUN: run.name} if several else {})} for run in runs]
    names = [name for name in varying(params) if not (several and name == "branch")]  # a run's name says its branch
    found = []
    for run, values in zip(runs, params, strict=True):
        state = {"FINISHED": PRUNED if PRUNED in run.tags else DONE}.get(run.status, run.status.lower())
        objective = run.metrics.get(OBJECTIVE)
        if run.tags.get("failure", "").startswith("DivergedError"):
            state, objective = DIVERGED, math.inf
        found.append(Trial({name: values[name] for name in names if name in values}, objective, state))
    return found


def _show(name: str, rows: list[tuple[Trial, StoredRun]], found: Importance | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from ppdl.config.choices import exp_run, is_choice, key_of

    names = sorted({key for trial, _ in rows for key in trial.values})
    table = Table(title=f"{name}: {len(rows)} trials, best first", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("job", "state", "log loss", "acc, %", "epochs", "s", *(key.rsplit(".", 1)[-1].replace("_", "_\n") for key in names)):
        table.add_column(heading, justify="left" if heading == "state" else "right", overflow="fold")
    for trial, run in rows:
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
    if found:
        falls = ", ".join(f"{key} {fall:.2f}" for key, fall in found.falls.items())
        click.echo(f"Importance (fall of R²): {falls}" + (f". Not to be read: {found.caveat}" if found.caveat else ""))
    best, run = rows[0]
    given = [text for text in shlex.split(run.tags.get("overrides", "")) if is_choice(text)]
    keys = {key_of(text) for text in given}
    given += [f"{key}={value}" for key, value in best.values.items() if key not in {*keys, RUN} and is_choice(key)]
    if given and _is_finite(best):
        click.echo("The best of several flatters itself on the images that it was chosen by. To test it, once:")
        click.echo(exp_run(given))


def _as_json(name: str, rows: list[tuple[Trial, StoredRun]], found: Importance | None) -> dict[str, Any]:
    trials = [
        {
            "job": int(run.tags["job"]) if "job" in run.tags else None,
            "run": run.name,
            "state": trial.state,
            "val_log_loss": trial.objective if _is_finite(trial) else None,
            "val_accuracy": run.metrics.get(ACCURACY),
            "num_epochs": run.metrics.get("fit/num_epochs"),
            "seconds": run.metrics.get("fit/seconds", run.seconds),
            "params": {key: value for key, value in trial.values.items() if key != RUN},
        }
        for trial, run in rows
    ]
    return {"sweep": name, "trials": trials, "importance": dataclasses.asdict(found) if found else None}


def _is_finite(trial: Trial) -> bool:
    return trial.objective is not None and math.isfinite(trial.objective)


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _value(text: str) -> str:
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text
