"""A group of commands that are imported when they are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from ppdl.errors import PpdlError, extra_of, install_extra


class Renamed(click.ClickException):
    """A name that a command had."""

    exit_code = 2


class LazyGroup(click.Group):
    """Import a command when it is named, and show a user's mistake as one line instead of a traceback.

    Args:
        package: has the commands, each in the module of its name and under its name.
        names: of the commands, in the order of the help.
        renamed: names that commands had, with the words that call them today.
    """

    def __init__(self, package: str, names: Sequence[str], *, renamed: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(**{"name": package.rpartition(".")[2]} | options)
        self.package, self.names, self.renamed = package, names, renamed or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.renamed:
            raise Renamed(f"`ppdl {cmd_name}` is now `ppdl {self.renamed[cmd_name]}`")
        if cmd_name not in self.names:
            return None
        name = cmd_name.replace("-", "_")
        return getattr(import_module(f"{self.package}.{name}"), name)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PpdlError as error:
            raise click.ClickException(str(error)) from None
        except ModuleNotFoundError as error:
            if (extra := extra_of(error.name or "")) is None:
                raise
            raise click.ClickException(f"this needs {error.name}, which is not installed: {install_extra(extra)}") from None
