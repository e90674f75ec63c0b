"""`ppdl sweep test`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ppdl.cli.store import checkout_store
from ppdl.cli.sweep.summary import ACCURACY, number

if TYPE_CHECKING:
    from ppdl.evaluation.predictions.predictions import Predictions
    from ppdl.tracking.runs.record import RunRecord


@click.command()
@click.argument("folder", required=False)
@click.option(
    "--reference",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of models/, trained with the values from before the sweep.  [default: the checkout, where `dvc repro` trains]",
)
def test(folder: str | None, reference: Path | None) -> None:
    """Compare the best trial of a sweep with the default, image by image, on the test images.

    FOLDER as for summary. Do it once, when the sweep is over: whoever chooses by test images has none left to test by.
    """
    from ppdl.config import checkout
    from ppdl.errors import TrackingError
    from ppdl.evaluation.measures.statistics import compare
    from ppdl.tracking.runs.record import read_record
    from ppdl.tracking.runs.sweep import OBJECTIVE, find_sweep, model_folder

    name, runs = find_sweep(checkout_store(), folder)
    done = [run for run in runs if run.status == "FINISHED" and OBJECTIVE in run.metrics]
    if not done:
        raise TrackingError(f"the sweep {name} has no finished trial: see `ppdl sweep summary {name}`")
    best = min(done, key=lambda run: run.metrics[OBJECTIVE])
    chosen = model_folder(checkout() / name, best)
    before = (reference or checkout()) / "models" / chosen.parent.name / chosen.name
    names = ("default", f"trial {best.job}")
    records = [read_record(place / "run.json") for place in (before, chosen)]
    for who, record in zip(names, records, strict=True):
        loss, accuracy = (number(record.metrics.get(key), form) or "unknown" for key, form in ((OBJECTIVE, ".3f"), (ACCURACY, ".1%")))
        click.echo(f"{who}: validation log loss {loss}, accuracy {accuracy}")
    settings = records[0].config["evaluation"]
    click.echo(compare(_on_test(records[0], before), _on_test(records[1], chosen), margin=settings["margin"], names=names).sentence)


def _on_test(record: RunRecord, folder: Path) -> Predictions:
    from omegaconf import OmegaConf

    from ppdl.config import PROJECT, Workspace
    from ppdl.experiment.experiment import Experiment
    from ppdl.experiment.training.network_run import NetworkRun
    from ppdl.training.networks.predict import load_model

    experiment = Experiment(OmegaConf.create(dict(record.config)), Workspace(inputs=PROJECT, outputs=PROJECT))
    run = NetworkRun(experiment, record.name, record.tags["protection"], record.tags["view"])
    return run.predict(load_model(folder / "model.keras"))
