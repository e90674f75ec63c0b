"""Look at the length of the modulus: who factors n decrypts everything."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ppdl.audit.examination import base

_FACTORED_BITS = 829  # RSA-250: 2,700 core years


@dataclass(frozen=True)
class KeySize(base.Attack):
    """Compare the length of n with the longest that was factored in public."""

    name: ClassVar[str] = "key_size"
    needs: ClassVar[frozenset[str]] = frozenset({base.PUBLIC_KEY})
    knowledge: ClassVar[str] = "the public key"
    source: ClassVar[str] = "F. Boudot et al., Comparing the Difficulty of Factorization and Discrete Logarithm, CRYPTO 2020"

    def run(self, target: base.Target, rng: np.random.Generator) -> base.Finding:
        """Return the length, and what it means."""
        bits = target.public_key.key_bits
        leak = f"n has {bits} bits, and a number of {_FACTORED_BITS} bits was factored in 2020: its factors are the private key"
        return base.Finding(
            {"key_bits": bits, "leak": leak if bits <= _FACTORED_BITS else None, "unseen": f"n of up to {_FACTORED_BITS} bits"}
        )

    def score(self, guess: base.Finding, truth: base.Truth) -> base.Finding:
        """Return what was found."""
        return guess
