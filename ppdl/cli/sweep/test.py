"""`ppdl sweep test`."""

from __future__ import annotations

from pathlib import Path

import click

from ppdl.cli.sweep.summary import ACCURACY, best_of, number


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
    from ppdl.datasets.prepared.arrays import load_prepared
    from ppdl.errors import DataError
    from ppdl.evaluation.measures.statistics import compare
    from ppdl.experiment.runs import predict_recorded
    from ppdl.tracking.runs.record import read_record
    from ppdl.tracking.runs.sweep import OBJECTIVE, model_folder

    name, trial = best_of(folder)
    best = trial.run
    chosen = model_folder(checkout() / name, best)
    before = (reference or checkout()) / "models" / chosen.parent.name / chosen.name
    names = ("default", f"trial {best.tags['job']}")
    records = [read_record(place / "run.json") for place in (before, chosen)]
    data = load_prepared(checkout() / "data/prepared").sha256
    for who, place, record in zip(names, (before, chosen), records, strict=True):
        if record.tags.get("data_sha256") != data:
            raise DataError(
                f"{place} ({who}) was trained on other images or another split than data/prepared has now, so that it may have seen these "
                f"test images: test the sweep on what it was run on, or run both anew"
            )
        loss, accuracy = (number(record.metrics.get(key), form) or "unknown" for key, form in ((OBJECTIVE, ".3f"), (ACCURACY, ".1%")))
        click.echo(f"{who}: validation log loss {loss}, accuracy {accuracy}")
    ours, theirs = (predict_recorded(record, place) for record, place in zip(records, (before, chosen), strict=True))
    click.echo(compare(ours, theirs, margin=records[0].config["evaluation"]["margin"], names=names).sentence)
