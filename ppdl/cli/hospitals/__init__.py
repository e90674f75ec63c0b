"""`ppdl hospitals`."""

from ppdl.cli.lazy import LazyGroup

NAMES = ("make", "call", "agree", "run")
hospitals = LazyGroup("ppdl.cli.hospitals", NAMES, help="Train one head or network of several hospitals, each on its own machine.")
