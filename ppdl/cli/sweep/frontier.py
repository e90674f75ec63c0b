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
_PICTURES = ".png", ".svg", ".pdf"


@click.command(short_help="Accuracy against the best attacker, over all experiments on the data built here.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The figure: PNG, SVG or PDF by its suffix.  [default: reports/frontier.png of the checkout, which git ignores]",
)
def frontier(out: Path | None) -> None:
    """Draw utility against privacy, and print the same as a table: one point for each run in MLflow that `evaluate` has seen.

    Figures compare on the same test images alone: shown are the runs on data/prepared as it is, its images and their split. How many
    there are of others is said. Runs that share protection, stride, noise and input size count once, the newest. Fill it with, for
    example:

    \b
    dvc exp run --queue -S +experiment=frontier -S protections.homomorphic.reveal.noise=0,4,16,64
    dvc exp run --run-all
    dvc exp apply NAME       # of one of them, whose data are then built here
    ppdl sweep frontier
    """
    if out is not None and out.suffix.lower() not in _PICTURES:
        raise click.BadParameter(f"the figure's file must end in {', '.join(_PICTURES)}, got {out}", param_hint="--out")
    store = checkout_store()

    from ppdl.config import checkout
    from ppdl.datasets.prepared.arrays import META_NAME, load_prepared
    from ppdl.errors import DataError
    from ppdl.evaluation.figures.frontier import plot_frontier
    from ppdl.tracking.query import finished_runs, on_data

    folder = checkout() / "data/prepared"
    if not (folder / META_NAME).is_file():
        raise DataError(
            f"{folder} has no {META_NAME}, so it cannot be told which runs are on one data set: build it with `ppdl repro` first"
        )
    prepared = load_prepared(folder)
    evaluated = [run for run in finished_runs(store) if {*ACCURACY, SSIM} <= run.metrics.keys()]
    runs, left_out = on_data(evaluated, prepared.sha256)
    if left_out:
        left_out += ". `dvc exp apply NAME` brings back the data of an experiment"
    if not runs:
        others = f" ({left_out})" if left_out else ""
        raise DataError(
            f"{store.shown} has no run on {folder} with {SSIM} and {ACCURACY[0]}{others}: run `ppdl repro` or `dvc exp run` first"
        )
    points, data = points_of(runs), f"{runs[0].dataset}, {len(prepared.rows('test'))} of them for testing"
    rows = [[p.name, f"{100 * p.accuracy:.1f} [{100 * p.low:.1f}, {100 * p.high:.1f}]", f"{p.ssim:.2f}"] for p in points]
    numbers = ("accuracy, %", "SSIM")
    print_table("Accuracy against the best attacker's SSIM", ["run", *numbers], rows, right=numbers, caption=data)
    if left_out:
        click.echo(left_out)
    out = out or checkout() / "reports/frontier.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    plot_frontier(points, data=data).savefig(out, dpi=150)
    click.echo(f"wrote {out}")


def points_of(runs: list[StoredRun]) -> list[FrontierPoint]:
    """Return a point for each setting, the newest run of it; those that differ in noise alone are one group.

    Args:
        runs: on the same data, evaluated and attacked, newest first.
    """
    from ppdl.evaluation.figures.frontier import FrontierPoint

    found: dict[tuple[str, ...], FrontierPoint] = {}
    for run in runs:
        branch = run.tags.get("protection", run.name)
        stride = run.params.get(f"protections.{branch}.scheme.stride")
        noise = run.params.get(f"protections.{branch}.reveal.noise")
        size = run.params.get(f"heads.{branch}.backbone.input_px", run.params.get("input_px", ""))
        setting = (run.name, stride or "", size, noise or "")
        if setting in found:
            continue
        group = f"{run.name}, {size} px" + (f", stride {stride}" if stride else "")
        label = f"noise {float(noise):g}" if noise else group
        accuracy, low, high = (run.metrics[name] for name in ACCURACY)
        found[setting] = FrontierPoint(label, accuracy, low, high, run.metrics[SSIM], group)
    return [found[key] for key in sorted(found, key=lambda key: (*key[:-1], float(key[-1] or 0)))]
