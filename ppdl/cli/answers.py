"""What `ppdl predict` prints, whoever answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ppdl.cli.table import print_table

if TYPE_CHECKING:
    from ppdl.prediction.predict import FileAnswers


def finish(found: FileAnswers) -> None:
    """Say what the answers are not for, and which files were not read; exit with status 1 when there are such."""
    from ppdl.prediction.predict import DISCLAIMER

    for line in (DISCLAIMER, *filter(None, [found.remark]), *(f"{path}: {reason}" for path, reason in found.bad.items())):
        click.echo(line, err=True)
    if found.bad:
        raise click.exceptions.Exit(1)


def print_answers(title: str, class_names: tuple[str, ...], found: FileAnswers, *notes: str) -> None:
    """Print a row of probabilities for each file, whether it is unlike the training set, and how far it has gray values never learned."""
    chances = [f"p({name})" for name in class_names]
    rows = [
        [str(row.path), row.class_name or "does not know", *(f"{row.probabilities[name]:.3f}" for name in class_names)]
        for row in found.rows
    ]
    unseen = max((row.unseen or 0 for row in found.rows), default=0)
    captions = [f"up to {100 * unseen:.1f} % of a file's pixels have gray values that no training image had"] if unseen else []
    headings = ["file", "class", *chances]
    if any(row.unlike is not None for row in found.rows):
        headings.append("like the training set")
        said = ["UNLIKE" if row.unlike else "coloured" if row.coloured else "as far as seen" for row in found.rows]
        rows = [[*cells, one] for cells, one in zip(rows, said, strict=True)]
    if odd := sum(row.unlike or False for row in found.rows):
        captions.append(f"{odd} of {len(rows)} are unlike what the network was trained on: do not believe its answer for them")
    if coloured := [row.path.name for row in found.rows if row.coloured]:
        captions.append(f"{', '.join(coloured)}: coloured, which no X-ray is; the answer is of the brightness alone")
    print_table(title, headings, rows, right=chances, caption="\n".join([*captions, *notes]) or None, whole=True)
