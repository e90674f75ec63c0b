"""Obfuscators: what makes two ciphertexts of one plaintext differ. Two kinds, each with the public key or with the private key.

kind       obfuscator                                     public key only               owner (private key)
djn        h_n^a mod n^2, a uniform in [0, 2^ceil(|n|/2))  tables of powers mod n^2      the same, mod p^2 and q^2
standard   r^n mod n^2, r uniform in Z_n^*                 a modular power               r_p^p mod p^2 and r_q^q mod q^2

`djn` is the fast one. It assumes decisional composite residuosity with exponents of half the length of n, which is
the length that Damgard, Jurik and Nielsen published, and it needs a key that has h. `standard` is Paillier's own, for
any key.

A source draws from the operating system's randomness and forgets the exponents. What a source with the private key
holds reveals p and q: such sources refuse to be pickled or printed, as the private key does. Sources differ in speed
alone, never in distribution.

Source: Paillier 1999; DJN 2010 (see keys.py).
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import gmpy2
from gmpy2 import mpz

from ppdl.crypto.arithmetic.derived import Randbelow
from ppdl.crypto.arithmetic.powers import powers
from ppdl.crypto.arithmetic.powertable import Windows, build_power_table, choose_window_bits
from ppdl.crypto.keys.keypair import CrtConstants, PrivateKey, PublicKey, Secret
from ppdl.errors import CryptoError

KINDS = ("djn", "standard")
DEFAULT_TABLE_BYTES = 256 * 2**20


class Obfuscators(ABC):
    """Draw fresh obfuscators for public_key."""

    public_key: PublicKey

    @abstractmethod
    def draw(self, num_obfuscators: int) -> list[mpz]:
        """Draw num_obfuscators independent obfuscators mod n^2. Each may be used for one ciphertext, then it must be forgotten."""

    def encrypt(self, plaintexts: Sequence[mpz]) -> list[mpz]:
        """Encrypt numbers in [0, n), each with a fresh obfuscator: (1 + n)^m = 1 + m n (mod n^2)."""
        n, n_squared = mpz(self.public_key.n), mpz(self.public_key.n_squared)
        return [(1 + m * n) * r % n_squared for m, r in zip(plaintexts, self.draw(len(plaintexts)), strict=True)]


def build_obfuscators(
    key: PublicKey | PrivateKey,
    kind: str = "djn",
    *,
    table_bytes: int = DEFAULT_TABLE_BYTES,
    num_ciphertexts: int | None = None,
) -> Obfuscators:
    """Build the source of a kind: with a PublicKey the public path, with a PrivateKey the owner's faster one.

    Args:
        table_bytes: memory that the `djn` tables may take.
        num_ciphertexts: how many will be drawn, if known: small jobs get small tables, which are built sooner.

    Raises: CryptoError for an unknown kind, `djn` with a key that has no h, or table_bytes too small for any table.
    Cost: see DjnObfuscators for the tables; `standard` has none.
    """
    if kind not in KINDS:
        raise CryptoError(f"obfuscator must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "standard":
        return OwnerStandardObfuscators(key) if isinstance(key, PrivateKey) else StandardObfuscators(key)
    if isinstance(key, PrivateKey):
        return OwnerDjnObfuscators(key, table_bytes=table_bytes, num_ciphertexts=num_ciphertexts)
    return DjnObfuscators(key, table_bytes=table_bytes, num_ciphertexts=num_ciphertexts)


class DjnObfuscators(Obfuscators):
    """Draw h_n^a mod n^2 with the public key: a uniform in [0, 2^ceil(|n|/2)) from the operating system.

    The length ceil(|n|/2) is the published one; a shorter one has no reference.

    Raises: CryptoError when the key has no h or a degenerate one, or when table_bytes holds no table.
    Source: Damgard, Jurik, Nielsen 2010.
    Cost: at 2048 bits and 256 MiB (12-bit windows) 86 windows: with gmpy2 1.7 s to build, then 85 multiplications mod n^2 (0.4 ms) an
        obfuscator; with the vector kernel 0.3 s and 0.05 ms.
    """

    def __init__(self, key: PublicKey, *, table_bytes: int = DEFAULT_TABLE_BYTES, num_ciphertexts: int | None = None):
        self.public_key = key
        h_n = base_of(key)
        exponent_bits = exponent_bits_of(key)
        self.window_bits = choose_window_bits(exponent_bits, (key.key_bits + 3) // 4, table_bytes, num_ciphertexts)
        self._windows = Windows(exponent_bits, self.window_bits)
        self._table = build_power_table(h_n, mpz(key.n), self._windows)
        self._again = partial(DjnObfuscators, key, table_bytes=table_bytes, num_ciphertexts=num_ciphertexts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Build the tables anew where it is unpickled: faster than carrying them."""
        return self._again, ()

    def draw(self, num_obfuscators: int) -> list[mpz]:
        return self._table.powers(self._windows.random_digits(num_obfuscators)) if num_obfuscators else []

    def encrypt(self, plaintexts: Sequence[mpz]) -> list[mpz]:
        return self._table.powers(self._windows.random_digits(len(plaintexts)), plaintexts) if plaintexts else []


class OwnerDjnObfuscators(Secret, Obfuscators):
    """Draw h_n^a mod n^2 with the private key: the same a in tables mod p^2 and mod q^2, then the Chinese remainder theorem.

    Raises: as DjnObfuscators.
    Cost: tables of the same size; two thirds of the time of the public path.
    """

    def __init__(self, key: PrivateKey, *, table_bytes: int = DEFAULT_TABLE_BYTES, num_ciphertexts: int | None = None):
        self.public_key = key.public
        h_n, crt = base_of(key.public), key.crt
        exponent_bits = exponent_bits_of(key.public)
        self.window_bits = choose_window_bits(exponent_bits, (key.public.key_bits + 3) // 4, table_bytes, num_ciphertexts)
        self._crt = crt
        self._windows = Windows(exponent_bits, self.window_bits)
        self._tables = [build_power_table(h_n % (prime * prime), prime, self._windows) for prime in (crt.p, crt.q)]

    def draw(self, num_obfuscators: int) -> list[mpz]:
        if not num_obfuscators:
            return []
        digits = self._windows.random_digits(num_obfuscators)
        return combine_squares(self._crt, *(table.powers(digits) for table in self._tables))

    def encrypt(self, plaintexts: Sequence[mpz]) -> list[mpz]:
        if not plaintexts:
            return []
        digits, crt = self._windows.random_digits(len(plaintexts)), self._crt
        # 1 + m n = 1 + (m q mod p) p (mod p^2)
        sides = ((crt.p, crt.q), (crt.q, crt.p))
        halves = [
            table.powers(digits, [m * other % prime for m in plaintexts]) for table, (prime, other) in zip(self._tables, sides, strict=True)
        ]
        return combine_squares(crt, *halves)


class StandardObfuscators(Obfuscators):
    """Draw r^n mod n^2 with r uniform in Z_n^*, as Paillier 1999. Cost: a modular power each: 9 ms at 2048 bits with gmpy2.

    Args:
        randbelow: where r comes from; the operating system, but for answers that must be the same again.
    """

    def __init__(self, key: PublicKey, randbelow: Randbelow = secrets.randbelow) -> None:
        self.public_key, self._randbelow = key, randbelow

    def draw(self, num_obfuscators: int) -> list[mpz]:
        key = self.public_key
        return powers([random_unit(key.n, self._randbelow) for _ in range(num_obfuscators)], key.n, key.n, private=False)


class OwnerStandardObfuscators(Secret, Obfuscators):
    """Draw r^n mod n^2 as r_p^p mod p^2 and r_q^q mod q^2 with uniform r_p, r_q.

    The distribution is the same: r^n = (r^q)^p mod p^2 depends on r mod p alone, and r -> r^q permutes Z_p^* because
    gcd(n, phi(n)) = 1.
    Cost: a quarter of StandardObfuscators; releases the GIL.
    """

    def __init__(self, key: PrivateKey) -> None:
        self.public_key, self._crt = key.public, key.crt

    def draw(self, num_obfuscators: int) -> list[mpz]:
        crt = self._crt
        sides = [
            powers([random_unit(int(prime)) for _ in range(num_obfuscators)], int(prime), int(prime), private=True)
            for prime in (crt.p, crt.q)
        ]
        return combine_squares(crt, *sides)


def exponent_bits_of(key: PublicKey) -> int:
    """Return the published length of DJN's exponents: ceil(|n| / 2) bits."""
    return (key.key_bits + 1) // 2


def base_of(key: PublicKey) -> mpz:
    """Return h_n = h^n mod n^2, the base of DJN's obfuscators.

    Raises: CryptoError when the key has no h, or when h_n = 1 (every ciphertext would show its plaintext).
    """
    if key.h is None:
        raise CryptoError(
            f"obfuscator djn needs a key that was made for it, and key {key.fingerprint[:16]}... has no h; "
            "use obfuscator=standard, or make a key with `ppdl key make`"
        )
    h_n = gmpy2.powmod(key.h, key.n, key.n_squared)
    if h_n == 1:
        raise CryptoError(f"the h of key {key.fingerprint[:16]}... is degenerate (h^n mod n^2 = 1): it would hide nothing")
    return h_n


def combine_squares(crt: CrtConstants, residues_p: list[mpz], residues_q: list[mpz]) -> list[mpz]:
    """Combine residues mod p^2 and mod q^2 into residues mod n^2 (Chinese remainder theorem)."""
    p2, q2, inverse = crt.p_squared, crt.q_squared, crt.p_squared_inverse
    return [a + p2 * ((b - a) * inverse % q2) for a, b in zip(residues_p, residues_q, strict=True)]


def random_unit(n: int, randbelow: Randbelow = secrets.randbelow) -> int:
    """Draw a uniform element of Z_n^*."""
    while True:
        r = randbelow(n - 1) + 1
        if gmpy2.gcd(r, n) == 1:
            return r
