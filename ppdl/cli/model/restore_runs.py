"""`ppdl model restore-runs`."""

import json
from pathlib import Path

import click

from ppdl.cli.store import checkout_store


@click.command("restore-runs")
@click.option("--models", type=click.Path(path_type=Path), default=Path("models"), show_default=True, help="Folder of the trained models.")
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    default=Path("reports/metrics.json"),
    show_default=True,
    help="Test metrics to add to what is rebuilt, if the file is there.",
)
def restore_runs(models: Path, metrics: Path) -> None:
    """Rebuild the MLflow runs of pulled models.

    A clone after `dvc pull` has models but no runs. Each model's run.json holds what the store knew of its run; runs that are there
    already stay as they are.
    """
    store = checkout_store()

    from ppdl.tracking import restore_runs as restore

    found = json.loads(metrics.read_text()) if metrics.is_file() else {}
    for state in restore(models, store, test_metrics=found):
        click.echo(f"{state.name}: {state.outcome} (run {state.run_id})")
