"""A table on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str],
    caption: str | None = None,
    whole: bool = False,
) -> None:
    """Print rows of text below the names of their columns, of which those in `right` hold numbers.

    Args:
        whole: each row stays on one line, wider than the terminal if need be, so that a path in it can be copied; so it does in a file.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), caption=None if caption is None else escape(caption))
    for i, name in enumerate(columns):
        table.add_column(escape(name), justify="right" if name in right else "left", overflow="fold", no_wrap=not whole and i == 0)
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    if whole or not console.is_terminal:
        console.width = max(console.width, console.measure(table, options=console.options.update(max_width=10_000)).maximum)
    console.print(table)
