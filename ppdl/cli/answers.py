"""What `ppdl predict` prints, whoever answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ppdl.prediction.predict import FileAnswers


def finish(found: FileAnswers) -> None:
    """Say what the answers are not for, and which files were not read; exit with status 1 when there are such."""
    from ppdl.prediction.predict import DISCLAIMER

    for line in (DISCLAIMER, *filter(None, [found.remark]), *(f"{path}: {reason}" for path, reason in found.bad.items())):
        click.echo(line, err=True)
    if found.bad:
        raise click.exceptions.Exit(1)


def print_table(title: str, class_names: tuple[str, ...], found: FileAnswers) -> None:
    """Print a row of probabilities for each file."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), caption=_unseen(found))
    for name in ("file", "class"):
        table.add_column(name, overflow="fold")
    for name in class_names:
        table.add_column(escape(f"p({name})"), justify="right", overflow="fold")
    for row in found.rows:
        table.add_row(escape(str(row.path)), escape(row.class_name), *(f"{row.probabilities[name]:.3f}" for name in class_names))
    Console().print(table)


def _unseen(found: FileAnswers) -> str | None:
    """Say how far the network had to do with gray values that it never learned."""
    largest = max((row.unseen or 0 for row in found.rows), default=0)
    return f"up to {100 * largest:.1f} % of a file's pixels have gray values that no training image had" if largest else None
