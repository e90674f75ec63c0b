"""Measure what each stage costs for 1,000 to 30,000 phantoms, and forecast real sets: `python -m benchmarks.scale [--sizes 1000 3000 ...]`.

Every stage runs as the pipeline runs it, in a process of its own, on small images (32 px, 2048-bit key), so that the largest size takes
minutes: what is asked here is how cost grows. Printed for each: wall and core seconds, peak memory of the process and its workers without
mapped files, bytes written; then seconds per 1,000 further images between sizes, which stay the same where cost is linear. A size whose
stage would take more than --limit-core-s, judged by the sizes before, is left out and named.

The forecast (benchmarks/scale_forecast.py) measures samples at the real key length and image size instead. About 15 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import rich.box
from rich.console import Console
from rich.table import Table

from benchmarks import scale_forecast
from ppdl.config import Workspace, compose_params
from ppdl.config.cost import core_seconds

PX, KEY_BITS = 32, 2048
STAGES = (
    "download",
    "split",
    "encrypt@deterministic",
    "encrypt@opaque",
    "encrypt@homomorphic",
    "stem@homomorphic",
    "reveal@homomorphic",
    "train_plain",
)
OUTS = {"download": "raw", "split": "prepared", "encrypt": "encrypted", "stem": "stem", "reveal": "revealed"}
ALWAYS = ("download", "split")  # the others need them


@dataclass(frozen=True)
class Cost:
    """What one stage took for one number of images."""

    stage: str
    num_images: int
    wall_s: float
    core_s: float
    peak_bytes: int
    written_bytes: int


class Scratch(Workspace):
    """Keep unfinished work on the file system of the result, as a checkout does."""

    @property
    def unfinished(self) -> Path:
        return self.outputs / "unfinished"


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10000, 30000])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--limit-core-s", type=float, default=500, help="most core seconds of a stage that is begun")
    parser.add_argument("--folder", type=Path, help="parent of the scratch folder, on the disk to be measured")
    parser.add_argument("--json", type=Path, help="also write all figures to this file; sizes that it holds already are not measured again")
    parser.add_argument("--anew", action="store_true", help="measure all of it again, whatever that file holds")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/benchmarks.md has them")
    parser.add_argument("--no-forecast", action="store_true")
    args = parser.parse_args()
    known = json.loads(args.json.read_text()) if args.json and args.json.exists() and not args.anew else {"costs": [], "forecasts": []}
    costs = [Cost(**cost) for cost in known["costs"]]
    forecasts = [scale_forecast.Forecast(**forecast) for forecast in known["forecasts"]]

    def save() -> None:
        if args.json:
            content = {"costs": [asdict(cost) for cost in costs], "forecasts": [asdict(forecast) for forecast in forecasts]}
            args.json.write_text(json.dumps(content, indent=1) + "\n")

    for num_images in sorted(set(args.sizes) - {cost.num_images for cost in costs}):
        with tempfile.TemporaryDirectory(prefix="ppdl-scale-", dir=args.folder) as folder:
            costs += measure(Path(folder), num_images, args.stages, costs, args.limit_core_s)
        save()
    if not args.no_forecast and not forecasts:
        forecasts = list(scale_forecast.forecasts())
        save()
    for table in (costs_table(costs), growth_table(costs), *([scale_forecast.table(forecasts)] if forecasts else [])):
        table.box = rich.box.MARKDOWN if args.markdown else table.box
        Console(width=180).print(table)


def measure(root: Path, num_images: int, stages: list[str], before: list[Cost], limit_core_s: float) -> list[Cost]:
    """Run every stage for one number of images, but those that would take too long, judged by smaller sizes."""
    _in_a_process("keygen", root, num_images)
    costs, skipped = [], set()
    for stage in stages:
        name, _, branch = stage.partition("@")
        expected_s = _expected_core_s([cost for cost in before if cost.stage == stage and cost.num_images < num_images], num_images)
        needed = {"stem": {"encrypt"}, "reveal": {"encrypt", "stem"}}.get(name, set())
        if stage not in ALWAYS and (expected_s > limit_core_s or any(f"{step}@{branch}" in skipped for step in needed)):
            skipped.add(stage)
            print(f"{stage} of {num_images} images left out: about {expected_s:.0f} core seconds, or what it reads was", flush=True)
            continue
        wall_s, core_s, peak = _in_a_process(stage, root, num_images)
        out = root / "data" / OUTS.get(name, "none") / branch
        written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        costs.append(Cost(stage, num_images, wall_s, core_s, peak, written))
        print(json.dumps(asdict(costs[-1])), flush=True)
    return costs


def _expected_core_s(before: list[Cost], num_images: int) -> float:
    """Extend the line through the last two sizes, or through the only one and zero."""
    if not before:
        return 0.0
    (x0, y0), (x1, y1) = [(0, 0.0), *sorted((cost.num_images, cost.core_s) for cost in before)][-2:]
    return y1 + (y1 - y0) * (num_images - x1) / (x1 - x0)


def _in_a_process(stage: str, root: Path, num_images: int) -> tuple[float, float, int]:
    """Return wall and core seconds, and the peak of memory that no file backs, workers included."""
    arguments = [sys.executable, "-c", f"from benchmarks.scale import *; run_stage({stage!r}, Path({str(root)!r}), {num_images})"]
    start, core_start, peak = time.perf_counter(), core_seconds(), 0
    with (root / "log").open("w") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT)
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            memory = [p.memory_info() for p in (watched, *watched.children(recursive=True))]
            peak = max(peak, sum(m.rss - getattr(m, "shared", 0) for m in memory))
        time.sleep(0.05)
    wall_s, core_s = time.perf_counter() - start, core_seconds() - core_start
    if process.returncode:
        raise RuntimeError(f"{stage} of {num_images} images failed: {(root / 'log').read_text()[-2000:]}")
    return wall_s, core_s, peak


def run_stage(stage: str, root: Path, num_images: int) -> None:
    """Run a stage as `python -m stages.NAME` does (in a process of its own)."""
    from importlib import import_module

    from omegaconf import OmegaConf

    name, _, branch = stage.partition("@")
    side = PX // 2 if branch == "homomorphic" else PX  # its images are of input_px times stride
    values = {
        "dataset.num_images": num_images,
        "dataset.size_px": PX,
        "prepared_px": PX,
        "input_px": side,
        "keygen.key_bits": KEY_BITS,
        "keygen.private_dir": root / "private",
        "training.epochs": 1,
        "branch": branch or "null",
    }
    params = root / f"{stage}.yaml"
    compose_params(params, [f"{key}={value}" for key, value in values.items()])
    cfg, workspace = OmegaConf.load(params), Scratch(inputs=root, outputs=root)
    if name == "train_plain":
        _train(cfg, workspace)
    else:
        import_module(f"stages.{name}").run(cfg, workspace)


def _train(cfg, workspace: Workspace) -> None:
    """Train for one epoch from the memory map, without a run in MLflow."""
    from ppdl.config import build
    from ppdl.datasets.prepared.arrays import load_prepared
    from ppdl.protections.view import plain_view
    from ppdl.training.fitting.fit import fit

    prepared = load_prepared(workspace.inputs / "data/prepared")
    fit(
        plain_view(prepared.images),
        prepared.index["label"].to_numpy(),
        prepared.rows("train"),
        prepared.rows("validation"),
        model=build(cfg.model, "model"),
        training=build(cfg.training, "training"),
        num_classes=len(prepared.class_names),
        seed=1,
        state_dir=workspace.unfinished / "training",
        progress=False,
    )


def costs_table(costs: list[Cost]) -> Table:
    """Show all figures."""
    table = Table(title=f"phantoms of {PX} px, {KEY_BITS} bits, {psutil.cpu_count()} cores")
    for column in ("stage", "images", "wall s", "core s", "peak MiB", "bytes", "bytes an image"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for cost in sorted(costs, key=lambda cost: STAGES.index(cost.stage)):
        each = f"{cost.written_bytes / cost.num_images:,.0f}" if cost.written_bytes else ""
        size = f"{cost.written_bytes:,}" if cost.written_bytes else ""
        figures = (f"{cost.wall_s:.1f}", f"{cost.core_s:.1f}", f"{cost.peak_bytes / 2**20:.0f}", size, each)
        table.add_row(cost.stage, f"{cost.num_images:,}", *figures)
    return table


def growth_table(costs: list[Cost]) -> Table:
    """Show core seconds for 1,000 further images between sizes, and how memory grew."""
    table = Table(title="core seconds for 1,000 further images; peak memory of the largest size over that of the smallest")
    sizes = sorted({cost.num_images for cost in costs})
    for column in ("stage", *(f"{a:,} to {b:,}" for a, b in pairwise(sizes)), "last over first", "memory"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in STAGES:
        mine = {cost.num_images: cost for cost in costs if cost.stage == stage}
        if len(mine) < 2:
            continue
        slopes = {b: 1000 * (mine[b].core_s - mine[a].core_s) / (b - a) for a, b in pairwise(sorted(mine))}
        cells = [f"{slopes[b]:.2f}" if b in slopes else "left out" for _, b in pairwise(sizes)]
        first, *_, last = [slopes[b] for b in sorted(slopes)] * 2
        memory = mine[max(mine)].peak_bytes / mine[min(mine)].peak_bytes
        table.add_row(stage, *cells, f"{last / first:.2f}" if first > 0 and len(slopes) > 1 else "", f"{memory:.2f}")
    return table


if __name__ == "__main__":
    main()
