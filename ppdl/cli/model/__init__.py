"""`ppdl model`."""

from ppdl.cli.lazy import LazyGroup

model = LazyGroup("ppdl.cli.model", ("register", "restore-runs"), help="Put trained models into MLflow's registry, or their runs back.")
