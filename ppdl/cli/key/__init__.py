"""`ppdl key`."""

from ppdl.cli.lazy import LazyGroup

key = LazyGroup("ppdl.cli.key", ("make", "signing"), help="Make key pairs, which encrypt and decrypt, or sign.")
