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


def print_answers(title: str, class_names: tuple[str, ...], found: FileAnswers) -> None:
    """Print a row of probabilities for each file, and how far the network had to do with gray values that it never learned."""
    chances = [f"p({name})" for name in class_names]
    rows = [
        [str(row.path), row.class_name or "does not know", *(f"{row.probabilities[name]:.3f}" for name in class_names)]
        for row in found.rows
    ]
    unseen = max((row.unseen or 0 for row in found.rows), default=0)
    caption = f"up to {100 * unseen:.1f} % of a file's pixels have gray values that no training image had" if unseen else None
    print_table(title, ["file", "class", *chances], rows, right=chances, caption=caption, whole=True)
