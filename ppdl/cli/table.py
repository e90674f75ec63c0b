"""A table on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str], caption: str | None = None
) -> None:
    """Print rows of text below the names of their columns, of which those in `right` hold numbers."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), caption=None if caption is None else escape(caption))
    for name in columns:
        table.add_column(escape(name), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
