"""Decrypt with the vector kernel: c^(p-1) mod p^2 and c^(q-1) mod q^2, eight ciphertexts side by side.

In base-p digits, c^(p-1) = 1 + a1 p (mod p^2), so that Paillier's L is read off as a1. Powers take the same time and read the same
addresses whatever p and q are; the two products and the Chinese remainder theorem after them are GMP's, which promises no such thing.

Source: Paillier 1999, section 7, "Decryption using Chinese-remaindering".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.vector.power import Power
from ppdl.crypto.arithmetic.vector.ring import Ring
from ppdl.crypto.keys.keypair import Secret
from ppdl.errors import CryptoError

if TYPE_CHECKING:
    from ppdl.crypto.keys.keypair import CrtConstants

_BATCH = 1024  # bounds the memory of digits to a few MiB


class Decryption(Secret):
    """Hold both sides of a private key. As secret as p and q."""

    def __init__(self, crt: CrtConstants) -> None:
        self._crt = crt
        sides = ((crt.p, crt.h_p), (crt.q, crt.h_q))
        self._sides = [(Ring(prime), Power(prime - 1, private=True), h) for prime, h in sides]

    def decrypt(self, ciphertexts: np.ndarray, num_threads: int) -> list[mpz]:
        """Decrypt numbers in (0, n^2), uint8 (num_ciphertexts, ciphertext_bytes) big-endian.

        Raises: CryptoError with the row of one that has a factor in common with n.
        """
        crt, result = self._crt, list[mpz]()
        for start in range(0, len(ciphertexts), _BATCH):
            halves = [self._half(ciphertexts[start : start + _BATCH], side, start, num_threads) for side in self._sides]
            result += [a + crt.p * ((b - a) * crt.p_inverse % crt.q) for a, b in zip(*halves, strict=True)]
        return result

    @staticmethod
    def _half(ciphertexts: np.ndarray, side: tuple[Ring, Power, mpz], first: int, num_threads: int) -> list[mpz]:
        ring, power, h = side
        rows = power.of(ring, ring.split(ciphertexts, num_threads), num_threads=num_threads)
        fermat = rows[:, : ring.num_digits]
        units = (fermat[:, 0] == 1) & ~fermat[:, 1:].any(axis=1)  # Fermat's little theorem: 1 unless the prime divides c
        if not units.all():
            row = first + int(np.argmin(units))
            raise CryptoError(f"ciphertext {row} has a factor in common with n: no encryption gives such a number")
        return [a1 * h % ring.m for a1 in ring.halves(rows)[1]]
