"""Paillier key pairs that also satisfy the conditions of Damgard, Jurik and Nielsen (DJN).

A public key is n, and h = -x^2 mod n for an x that nobody keeps. h lets the holder of the public key draw obfuscators
h_n^a with h_n = h^n mod n^2 instead of r^n. That needs p = q = 3 (mod 4) and gcd(p - 1, q - 1) = 2, which n does not
show: so h is part of the key, of its files and of its fingerprint, and a key without h (made elsewhere) can only be
used with `standard` obfuscators.

A pair is for one purpose (purpose.py), which is part of the key as well.

Source: P. Paillier, "Public-Key Cryptosystems Based on Composite Degree Residuosity Classes", EUROCRYPT 1999 (with g
    = n + 1); I. Damgard, M. Jurik, J. B. Nielsen, "A generalization of Paillier's public-key system with applications
    to electronic voting", International Journal of Information Security 9, 2010.
"""

import hashlib
import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import gmpy2
import phe
from gmpy2 import mpz

from ppdl.crypto.keys.purpose import ARCHIVE, PUBLIC_PATHS
from ppdl.errors import ConfigError, CryptoError, KeyStoreError

SECURE_KEY_BITS = (2048, 3072, 4096)  # 112, 128 and more bits of security (NIST SP 800-57 part 1)
SMALLEST_KEY_BITS = 64  # below this even tests cannot pack a few slots
PRIMALITY_ROUNDS = 64  # GMP: a Baillie-PSW test, then 64 - 24 = 40 Miller-Rabin rounds (each misses a composite with < 1/4)
_FINGERPRINT_DOMAIN = b"ppdl paillier public key v1"
_PURPOSE_DOMAIN = b"ppdl paillier public key v2"  # of a fingerprint that covers a purpose


class Secret:
    """Keep what reveals a private key out of texts, and of pickles: it must not travel to workers, caches or files unnoticed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(not shown)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds private key material and cannot be pickled or copied")


@dataclass(frozen=True)
class PublicKey:
    """Hold n, h when the pair was made for DJN obfuscators, and what the pair is for.

    Raises: CryptoError when n or h cannot belong to a Paillier key (that n has two prime factors cannot be seen), or the purpose is none of
        PUBLIC_PATHS.
    """

    n: int
    h: int | None = None
    purpose: str = ARCHIVE

    def __post_init__(self) -> None:
        if self.purpose not in tuple(PUBLIC_PATHS):
            raise CryptoError(f"the purpose of a key must be one of {', '.join(PUBLIC_PATHS)}, got {ascii(self.purpose)[:40]}")
        object.__setattr__(self, "n", int(self.n))  # phe refuses mpz
        if self.n < 2**15 or self.n % 2 == 0:
            raise CryptoError(f"a Paillier modulus n must be odd and have at least 16 bits, got {_shape(self.n)}")
        if self.h is None:
            return
        object.__setattr__(self, "h", int(self.h))
        if not 1 < self.h < self.n - 1 or gmpy2.jacobi(self.h, self.n) != 1:
            raise CryptoError(f"h must be -x^2 mod n: between 2 and n - 2 and of Jacobi symbol 1, got {_shape(self.h)} that is not")
        if self.n % 4 != 1:
            raise CryptoError(f"a key with h has p = q = 3 (mod 4), so n = 1 (mod 4), got n = {self.n % 4} (mod 4)")

    @property
    def key_bits(self) -> int:
        return self.n.bit_length()

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of one ciphertext in an array: 2 * key_bits / 8, rounded up."""
        return (2 * self.key_bits + 7) // 8

    @cached_property
    def n_squared(self) -> int:
        return self.n * self.n

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex of `ppdl paillier public key v1`, n and h, each as a 4-byte big-endian length and big-endian bytes.

        A key without h has an empty h (length 0), so it never collides with a key that has one. For a purpose other than archive the text
        is `ppdl paillier public key v2`, and the purpose in ASCII follows as a fourth part.
        """
        digest, numbers = hashlib.sha256(), (_to_bytes(self.n), _to_bytes(self.h or 0))
        archive = self.purpose == ARCHIVE
        for part in (_FINGERPRINT_DOMAIN, *numbers) if archive else (_PURPOSE_DOMAIN, *numbers, self.purpose.encode("ascii")):
            digest.update(len(part).to_bytes(4, "big") + part)
        return digest.hexdigest()

    @property
    def phe(self) -> phe.PaillierPublicKey:
        return phe.PaillierPublicKey(self.n)

    def __repr__(self) -> str:
        shown = f"fingerprint={self.fingerprint[:16]}..., key_bits={self.key_bits}, has_h={self.h is not None}, purpose={self.purpose}"
        return f"PublicKey({shown})"

    def __reduce__(self) -> tuple[type["PublicKey"], tuple[int, int | None, str]]:
        return PublicKey, (self.n, self.h, self.purpose)


class PrivateKey(Secret):
    """Hold p and q next to their public key; refuse to be printed, copied or pickled.

    Raises: KeyStoreError when p and q are not the two prime factors of n, or not those that its h needs.
    """

    __slots__ = ("_crt", "_p", "_q", "public")

    def __init__(self, public: PublicKey, p: int, q: int):
        p, q = sorted((int(p), int(q)))
        owner = f"the private parts do not belong to the public key {public.fingerprint}"
        if p < 3 or p == q or p * q != public.n:
            raise KeyStoreError(f"{owner}: p * q must be n with p and q different")
        if not (gmpy2.is_prime(p, PRIMALITY_ROUNDS) and gmpy2.is_prime(q, PRIMALITY_ROUNDS)):
            raise KeyStoreError(f"{owner}: p and q must be prime")
        if gmpy2.gcd(public.n, (p - 1) * (q - 1)) != 1:
            raise KeyStoreError(f"{owner}: n and (p - 1)(q - 1) must have no common factor")
        if public.h is not None and not _fits_djn(p, q):
            raise KeyStoreError(f"{owner}: its h needs p = q = 3 (mod 4) and gcd(p - 1, q - 1) = 2")
        self.public, self._p, self._q = public, p, q
        self._crt: CrtConstants | None = None

    @property
    def p(self) -> int:
        """The smaller prime."""
        return self._p

    @property
    def q(self) -> int:
        """The larger prime."""
        return self._q

    @property
    def phe(self) -> phe.PaillierPrivateKey:
        return phe.PaillierPrivateKey(self.public.phe, self._p, self._q)

    @property
    def crt(self) -> "CrtConstants":
        """Constants mod p^2 and q^2 (computed once). They reveal p and q: the same care."""
        if self._crt is None:
            self._crt = CrtConstants(self._p, self._q)
        return self._crt

    def __repr__(self) -> str:
        return f"PrivateKey(public={self.public.fingerprint[:16]}..., key_bits={self.public.key_bits}, p and q not shown)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateKey) and (self._p, self._q, self.public) == (other._p, other._q, other.public)

    def __hash__(self) -> int:
        return hash(self.public)


class CrtConstants(Secret):
    """What computations mod p^2 and q^2 need, as mpz. As secret as p and q.

    Source: Paillier 1999, section 7, "Decryption using Chinese-remaindering".
    """

    __slots__ = ("h_p", "h_q", "p", "p_inverse", "p_squared", "p_squared_inverse", "q", "q_squared", "vector")

    def __init__(self, p: int, q: int) -> None:
        self.p, self.q = mpz(p), mpz(q)
        self.p_squared, self.q_squared = self.p * self.p, self.q * self.q
        self.p_squared_inverse = gmpy2.invert(self.p_squared, self.q_squared)
        self.p_inverse = gmpy2.invert(self.p, self.q)
        # L((1 + n)^(p-1) mod p^2) = (p - 1) q mod p = -q mod p
        self.h_p = gmpy2.invert(-self.q % self.p, self.p)
        self.h_q = gmpy2.invert(-self.p % self.q, self.q)
        self.vector: Any = None  # a vector.decryption.Decryption, built when it is first used


def generate_keypair(key_bits: int, *, purpose: str = ARCHIVE, allow_insecure_key: bool = False) -> PrivateKey:
    """Generate a pair whose n has exactly key_bits bits and whose h satisfies DJN's conditions.

    Primes are uniform among those = 3 (mod 4) in [2^(l - 1/2), 2^l), l = key_bits / 2, from the operating system's
    randomness, more than 2^(l - 100) apart, tested by Baillie-PSW and 40 Miller-Rabin rounds (GMP).

    Raises: ConfigError for a length that check_key_bits refuses.
    Source: FIPS 186-5, appendix A.1.3 (range and distance); DJN 2010 (residues, gcd, h).
    Cost: about 0.3 s at 2048 bits, 1 s at 3072, 3 s at 4096.
    """
    check_key_bits(key_bits, allow_insecure_key=allow_insecure_key)
    half = key_bits // 2
    while True:
        p, q = _random_prime(half), _random_prime(half)
        if abs(p - q) > 1 << max(half - 100, 1) and _fits_djn(p, q):
            break
    n = p * q
    while True:
        x = secrets.randbelow(n - 1) + 1
        h = -x * x % n
        # h_n = 1 (all obfuscators would be 1) has probability about 1 / n; it costs nothing to exclude
        if gmpy2.gcd(x, n) == 1 and 1 < h < n - 1 and gmpy2.powmod(h, n, n * n) != 1:
            return PrivateKey(PublicKey(n, h, purpose), p, q)


def check_key_bits(key_bits: int, *, allow_insecure_key: bool) -> None:
    """Refuse a key length that is neither 2048, 3072 nor 4096, unless allow_insecure_key (then: a multiple of 16, 64 to 4096)."""
    if key_bits in SECURE_KEY_BITS:
        return
    if not allow_insecure_key:
        raise ConfigError(
            f"keygen.key_bits must be one of {', '.join(map(str, SECURE_KEY_BITS))}, got {key_bits!r}; "
            "for tests only, keygen.allow_insecure_key=true admits others"
        )
    if not isinstance(key_bits, int) or key_bits % 16 or not SMALLEST_KEY_BITS <= key_bits <= max(SECURE_KEY_BITS):
        raise ConfigError(
            f"keygen.key_bits must be a multiple of 16 between {SMALLEST_KEY_BITS} and {max(SECURE_KEY_BITS)} even with "
            f"keygen.allow_insecure_key=true, got {key_bits!r}"
        )


def _random_prime(bits: int) -> int:
    lowest = gmpy2.isqrt(mpz(1) << (2 * bits - 1)) + 1  # two primes from here on have a product of exactly 2 * bits bits
    while True:
        candidate = secrets.randbits(bits) | 3
        if candidate >= lowest and gmpy2.is_prime(candidate, PRIMALITY_ROUNDS):
            return candidate


def _fits_djn(p: int, q: int) -> bool:
    return p % 4 == q % 4 == 3 and gmpy2.gcd(p - 1, q - 1) == 2


def _to_bytes(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _shape(value: int) -> str:
    """Describe a public number by its size: a message of 900 digits helps nobody."""
    return f"{value}" if abs(value) < 2**64 else f"an {'odd' if value % 2 else 'even'} number of {value.bit_length()} bits"


def check_purpose(key: PublicKey, purpose: str, where: object = "the key") -> None:
    """Refuse a key that was made for another purpose.

    Args:
        where: the file that it is from, for the message.

    Raises: KeyStoreError.
    """
    if key.purpose != purpose:
        raise KeyStoreError(
            f"{where}: key {key.fingerprint[:16]}... is for {key.purpose}, and this takes one for {purpose}. A pair serves one purpose: "
            f"make another with `ppdl key make --purpose {purpose}`, or name the one that you have"
        )
