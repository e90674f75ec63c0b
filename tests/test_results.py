"""The tables of real X-rays say what the kept test predictions give: benchmarks/xrays."""

from pathlib import Path

import pytest

from ppdl.evaluation.measures.metrics import evaluate
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.experiment.results.crossval import kept_seeds, read_pooled

PROJECT = Path(__file__).parents[1]
XRAYS = PROJECT / "benchmarks/xrays"
TRAINED = sorted({(path.parents[1].name, path.stem) for path in XRAYS.glob("*/fold-0/*.npz")})


def pooled(folder: Path, run: str) -> Predictions:
    """Return the predictions of a run over all folds and seeds."""
    folds = list(folder.glob("fold-*"))
    images = [name for fold in folds for name in Predictions.load(fold / f"{run}.npz").image_ids]
    return read_pooled(folder, run, len(folds), kept_seeds(folder, run), images)


@pytest.mark.parametrize(("table", "run"), TRAINED)
def test_a_table_is_that_of_its_predictions(table, run):
    found = evaluate(pooled(XRAYS / table, run))
    accuracy, low, high = (f"{100 * found[f'accuracy{end}']:.1f}" for end in ("", "_low", "_high"))
    row = f"| {run} | {accuracy} [{low}, {high}] | {found['macro_f1']:.3f} | {found['auroc']:.3f} | {found['ece']:.3f} |"
    assert row in (XRAYS / table / "results.md").read_text()


def test_every_table_has_predictions():
    assert {path.parent.name for path in XRAYS.glob("*/results.md")} == {table for table, _ in TRAINED} != set()


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("table", {run: run for run in ("plain", "deterministic", "opaque", "homomorphic", "private_head")}),
        ("stride4", {"homomorphic": "homomorphic at stride 4"}),
        ("px192", {"plain": "the strongest plain"}),
    ],
)
def test_a_page_repeats_the_table(page, table, names):
    text = (XRAYS / table / "results.md").read_text().partition("\n## ")[0]
    found = {cells[0]: cells for cells in (line.strip("| ").split(" | ") for line in text.splitlines())}
    lines = [line.replace("**", "") for line in (PROJECT / page).read_text().splitlines()]
    for run, name in names.items():
        accuracy, *interval = found[run][1].split(" ", 1)
        (row, *_) = [line for line in lines if line.startswith(tuple(f"| {name}{end}" for end in (",", ":", " |"))) and accuracy in line]
        assert run == "opaque" or interval[0] in row
        assert not found[run][5:] or found[run][5].strip() in row  # minus plain
