"""Raise many numbers to one exponent mod m^2, with the engine of this process."""

from collections.abc import Sequence

import gmpy2
from gmpy2 import mpz

from ppdl.crypto.arithmetic.engine import VECTOR, engine


def powers(bases: Sequence[int], exponent: int, m: int, *, private: bool) -> list[mpz]:
    """Return base^exponent mod m^2 of numbers in [0, m^2).

    Args:
        private: m or the exponent is secret: with the vector kernel, time and addresses do not depend on the exponent's bits.
    Cost: releases the GIL. The kernel takes as long for one number as for eight.
    """
    if engine() == VECTOR and len(bases):
        from ppdl.crypto.arithmetic.vector.power import Power
        from ppdl.crypto.arithmetic.vector.ring import Ring

        ring = Ring(m)
        return ring.numbers(Power(exponent, private=private).of(ring, ring.rows([mpz(base) for base in bases])))
    return gmpy2.powmod_base_list(list(bases), exponent, mpz(m) ** 2)
