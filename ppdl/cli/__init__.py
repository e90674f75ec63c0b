"""The `ppdl` command. Each command is a module of this package, imported when it is used; heavy imports are inside its function.

A new command is one module with one click command, and one row of COMMANDS.
"""

from importlib import import_module

import click

from ppdl.errors import PpdlError

COMMANDS = {
    "repro": "ppdl.cli.repro:repro",
    "keep": "ppdl.cli.keep:keep",
    "keygen": "ppdl.cli.keygen:keygen",
    "inspect": "ppdl.cli.inspect:inspect",
    "verify": "ppdl.cli.verify:verify",
    "signing-key": "ppdl.cli.signing_key:signing_key",
    "sign": "ppdl.cli.sign:sign",
    "decrypt": "ppdl.cli.decrypt:decrypt",
    "estimate": "ppdl.cli.estimate:estimate",
    "audit": "ppdl.cli.audit:audit",
    "frontier": "ppdl.cli.frontier:frontier",
    "sweep": "ppdl.cli.sweep:sweep",
    "predict": "ppdl.cli.predict:predict",
    "serve": "ppdl.cli.serve:serve",
    "register": "ppdl.cli.register:register",
    "ui": "ppdl.cli.ui:ui",
    "restore-runs": "ppdl.cli.restore_runs:restore_runs",
}


class LazyGroup(click.Group):
    """Import a command when it is named, and show a user's mistake as one line instead of a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name].split(":")
        return getattr(import_module(module), function)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PpdlError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ppdl")
def main() -> None:
    """Keys and ciphertext artifacts of Paillier-encrypted medical images.

    \b
    ppdl repro                                 `dvc repro`, with stages side by side
    ppdl keep dataset=folder dataset.root=PATH values of your own, for all commands
    ppdl keygen                                a key pair; the private part stays outside the project
    ppdl inspect data/encrypted/deterministic  what an artifact holds, and what it reveals
    ppdl verify data/encrypted/deterministic   every byte against its SHA-256
    ppdl signing-key --public FILE             a key pair that signs artifacts: ppdl sign, ppdl verify --signed-by
    ppdl decrypt ARTIFACT --private-key KEY --out DIR
    ppdl estimate --images 21165 --px 96       time and bytes before you encrypt
    ppdl audit FOLDER                          attack anybody's "encrypted" images
    ppdl frontier                              accuracy against the best attacker, over all experiments
    ppdl sweep summary                         the trials of a sweep, best first, and what mattered
    ppdl predict IMAGE...                      what a trained network says of new X-rays
    ppdl serve                                 classify encrypted X-rays for others, without seeing them
    ppdl register                              the best run of each protection into MLflow's registry
    ppdl ui                                    the MLflow runs in a browser, with the columns that matter
    ppdl restore-runs                          the MLflow runs of models that `dvc pull` brought
    """
