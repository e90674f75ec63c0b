"""`ppdl sweep`."""

from ppdl.cli.lazy import LazyGroup

sweep = LazyGroup("ppdl.cli.sweep", ("summary", "apply", "test", "frontier"), help="See what a sweep found, or all experiments together.")
