"""The `ppdl` command. Each command is a module of its name, imported when it is used; heavy imports are inside its function.

A new command is one module with one click command, in the folder of its group, and its name in the group's list.
"""

import logging

import click

from ppdl.cli.lazy import LazyGroup
from ppdl.errors import DISTRIBUTION

COMMANDS = ("repro", "keep", "predict", "serve", "ui", "estimate", "key", "artifact", "sweep", "model", "hospitals")
RENAMED = {
    "keygen": "key make",
    "signing-key": "key signing",
    "inspect": "artifact inspect",
    "verify": "artifact verify",
    "sign": "artifact sign",
    "decrypt": "artifact decrypt",
    "audit": "artifact audit",
    "frontier": "sweep frontier",
    "register": "model register",
    "restore-runs": "model restore-runs",
}


@click.group(
    cls=LazyGroup,
    package="ppdl.cli",
    names=COMMANDS,
    renamed=RENAMED,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name=DISTRIBUTION, prog_name="ppdl")
@click.option("-v", "--verbose", count=True, help="Say more in the log: -v what is done, -vv details.")
@click.option("-q", "--quiet", is_flag=True, help="Leave warnings out of the log.")
def main(verbose: int, quiet: bool) -> None:
    """Learn from Paillier-encrypted medical images, and see what that costs and protects.

    \b
    ppdl repro                                 `dvc repro`, with stages side by side
    ppdl keep dataset=folder dataset.root=PATH values of your own, for all commands
    ppdl predict IMAGE...                      what a trained network says of new X-rays
    ppdl serve                                 classify encrypted X-rays for others, without seeing them
    ppdl ui                                    the MLflow runs in a browser; prints the address
    ppdl estimate --images 21165 --px 96       time and bytes before you encrypt
    ppdl key make                              a key pair; the private part stays outside the project
    ppdl artifact inspect data/encrypted/deterministic
    ppdl artifact audit FOLDER                 attack anybody's "encrypted" images
    ppdl sweep summary                         the trials of a sweep, best first
    ppdl model register                        the best run of each protection into MLflow's registry
    ppdl hospitals run FOLDER                  one head of several hospitals, each on its own machine
    """
    if verbose or quiet:
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("ppdl").setLevel(logging.ERROR if quiet else logging.INFO if verbose == 1 else logging.DEBUG)
