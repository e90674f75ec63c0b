"""`ppdl sweep frontier`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ppdl.cli.store import checkout_store
from ppdl.cli.table import print_table

if TYPE_CHECKING:
    from ppdl.evaluation.figures.frontier import FrontierPoint
    from ppdl.tracking.query import StoredRun

ACCURACY = ("test/accuracy", "test/accuracy_low", "test/accuracy_high")
SSIM = "audit/best_ssim"


@click.command(short_help="Accuracy against the best attacker, over all experiments.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("frontier.png"),
    show_default=True,
    help="The figure: PNG, SVG or PDF by its suffix.",
)
def frontier(out: Path) -> None:
    """Draw utility against privacy, and print the same as a table: one point for each run in MLflow that `evaluate` has seen.

    Runs that share protection, stride, noise, input and image size count once, the newest. Fill it with, for example:

    \b
    dvc exp run --queue -S +experiment=frontier -S protections.homomorphic.reveal.noise=0,4,16,64
    dvc exp run --run-all
    ppdl sweep frontier --out frontier.png
    """
    store = checkout_store()

    from ppdl.errors import DataError
    from ppdl.evaluation.figures.frontier import plot_frontier
    from ppdl.tracking.query import finished_runs

    points = points_of(finished_runs(store))
    if not points:
        raise DataError(f"{store.shown} has no run with {SSIM} and {ACCURACY[0]}: run `dvc repro` or `dvc exp run` first")
    rows = [[p.group, p.label, f"{100 * p.accuracy:.1f} [{100 * p.low:.1f}, {100 * p.high:.1f}]", f"{p.ssim:.2f}"] for p in points]
    numbers = ("accuracy, %", "SSIM")
    print_table("Accuracy against the best attacker's SSIM", ["protection", "run", *numbers], rows, right=numbers)
    out.parent.mkdir(parents=True, exist_ok=True)
    plot_frontier(points).savefig(out, dpi=150)
    click.echo(f"wrote {out}")


def points_of(runs: list[StoredRun]) -> list[FrontierPoint]:
    """Return a point for each setting, the newest evaluated and attacked run of it; those that differ in noise alone are one group."""
    from ppdl.evaluation.figures.frontier import FrontierPoint

    found: dict[tuple[str, ...], FrontierPoint] = {}
    for run in runs:
        branch = run.tags.get("protection", run.name)
        stride = run.params.get(f"protections.{branch}.scheme.stride")
        noise = run.params.get(f"protections.{branch}.reveal.noise")
        size = run.params.get("input_px", "")
        setting = (run.name, stride or "", size, run.params.get("prepared_px", ""), noise or "")
        if setting in found or not {*ACCURACY, SSIM} <= run.metrics.keys():
            continue
        group = f"{run.name}, {size} px" + (f", stride {stride}" if stride else "")
        label = f"noise {float(noise):g}" if noise else run.name
        accuracy, low, high = (run.metrics[name] for name in ACCURACY)
        found[setting] = FrontierPoint(label, accuracy, low, high, run.metrics[SSIM], group)
    return [found[key] for key in sorted(found, key=lambda key: (*key[:-1], float(key[-1] or 0)))]
