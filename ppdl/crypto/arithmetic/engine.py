"""Which arithmetic multiplies residues: the vector kernel where the processor has AVX-512 IFMA, and GMP everywhere else. Results are equal.

The environment variable PPDL_ENGINE forces one: `vector` or `gmpy2`. `auto`, or no such variable, leaves it to the processor.
"""

import os

from ppdl.errors import ConfigError

VARIABLE = "PPDL_ENGINE"
VECTOR, GMPY2 = "vector", "gmpy2"


def engine() -> str:
    """Return the engine that this process computes with: `vector` or `gmpy2`.

    Raises:
        ConfigError: PPDL_ENGINE is no engine, or asks for `vector` on a processor without it.
    """
    wanted = os.environ.get(VARIABLE) or "auto"
    if wanted not in ("auto", VECTOR, GMPY2):
        raise ConfigError(f"{VARIABLE} must be auto, {VECTOR} or {GMPY2}, got {wanted!r}")
    if wanted == GMPY2:
        return GMPY2
    from ppdl.crypto.arithmetic.vector.compiled import missing_features

    missing = missing_features()
    if missing and wanted == VECTOR:
        raise ConfigError(
            f"{VARIABLE}={VECTOR} needs a processor with {' and '.join(missing)}, which this one lacks: leave {VARIABLE} away"
        )
    return GMPY2 if missing else VECTOR
