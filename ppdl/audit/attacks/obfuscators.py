"""Divide Paillier ciphertexts by one another, and by obfuscators r^n of small r."""

from dataclasses import dataclass
from typing import ClassVar

from ppdl.audit.attacks.ratio import Ratio
from ppdl.records.typecheck import Count


@dataclass(frozen=True)
class Obfuscators(Ratio):
    """Attack as `Ratio`, and try small r: for ciphertexts that somebody else made.

    Args:
        largest_r: r that are tried: those up to this without a prime factor above 4096 (all up to 4096, 75 % up to 2^16), and all if one
            of these but 1 is found.

    Cost: 564 powers mod n^2 for largest_r = 2^16, 10 s for 3072-bit keys without the vector kernel; 6,542 where small r are found.
    """

    largest_r: Count

    name: ClassVar[str] = "obfuscators"

    @property
    def tried_r(self) -> int:
        """Return the largest r that is tried."""
        return self.largest_r
