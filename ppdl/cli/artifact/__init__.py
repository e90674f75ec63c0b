"""`ppdl artifact`."""

from ppdl.cli.lazy import LazyGroup

NAMES = ("inspect", "verify", "sign", "decrypt", "audit")
artifact = LazyGroup("ppdl.cli.artifact", NAMES, help="Inspect, verify, sign, decrypt or attack what was encrypted.")
