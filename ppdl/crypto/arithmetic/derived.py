"""Randomness that is drawn again from the same message: a server's masks, where a repeated query must get the same answer.

Two answers to one query under two masks say more than one. So the masks are a pseudorandom function of a server's secret and of all that
the answer depends on: equal messages get equal draws, whenever and by whichever process they are made, and without the secret the draws of
different messages cannot be told from independent uniform ones.

Source: the key of a message is HMAC-SHA-256 (RFC 2104; a PRF: Bellare, "New proofs for NMAC and HMAC", CRYPTO 2006) of its parts, each
    after its length; each draw is HKDF-Expand (RFC 5869, section 2.3) of it under a number of its own; numbers below a bound by the simple
    discard method (NIST SP 800-90A, appendix A.5.1).
"""

import hashlib
import hmac
from collections.abc import Callable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SECRET_BYTES = 32
Randbelow = Callable[[int], int]  # to a uniform number in [0, bound): secrets.randbelow, or that of DerivedRandomness


class DerivedRandomness:
    """Draw numbers that secret and message determine, in the order in which they are asked for.

    Args:
        secret: SECRET_BYTES bytes from the operating system.
        parts: of the message; another part, another length of one, or another number of them is another message.
    """

    def __init__(self, secret: bytes, *parts: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret must have {SECRET_BYTES} bytes, got {len(secret)}")
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        self._key = hmac.digest(secret, message, hashlib.sha256)
        self._num_draws = 0

    def randbelow(self, bound: int) -> int:
        """Return a number in [0, bound), as secrets.randbelow does. Bounds have up to 65,280 bits."""
        num_bits = (bound - 1).bit_length()
        num_bytes = (num_bits + 7) // 8
        while num_bytes:
            info = self._num_draws.to_bytes(8, "big")
            self._num_draws += 1
            drawn = int.from_bytes(HKDFExpand(SHA256(), num_bytes, info).derive(self._key), "big") >> (8 * num_bytes - num_bits)
            if drawn < bound:
                return drawn
        return 0  # bound is 1: there is nothing to draw
