"""Numbers of the cryptosystem: between arrays and gmpy2's mpz, their ranges, and many inverses at once.

An array of ciphertexts is uint8 (num_ciphertexts, key.ciphertext_bytes); each row is one number in (0, n^2), big-endian. Errors tell the
position and the rule, never a plaintext.
"""

from collections.abc import Iterable, Sequence

import gmpy2
import numpy as np
from gmpy2 import mpz

from ppdl.crypto.keys.keypair import PublicKey
from ppdl.errors import CryptoError


def to_array(public_key: PublicKey, ciphertexts: Sequence[mpz]) -> np.ndarray:
    """Write ciphertexts as uint8 (num_ciphertexts, ciphertext_bytes), big-endian."""
    size = public_key.ciphertext_bytes
    data = b"".join([c.to_bytes(size, "big") for c in ciphertexts])
    return np.frombuffer(bytearray(data), np.uint8).reshape(len(ciphertexts), size)


def check_array(public_key: PublicKey, ciphertexts: np.ndarray) -> None:
    """Refuse what is no array of ciphertexts: another shape or type."""
    size = public_key.ciphertext_bytes
    if not isinstance(ciphertexts, np.ndarray) or ciphertexts.dtype != np.uint8 or ciphertexts.shape[1:] != (size,):
        found = f"{ciphertexts.dtype} {ciphertexts.shape}" if isinstance(ciphertexts, np.ndarray) else type(ciphertexts).__name__
        raise CryptoError(f"ciphertexts of a {public_key.key_bits}-bit key must be uint8 (num_ciphertexts, {size}), got {found}")


def from_array(public_key: PublicKey, ciphertexts: np.ndarray) -> list[mpz]:
    """Read ciphertexts from uint8 (num_ciphertexts, ciphertext_bytes), without checking their values (see check_ciphertexts).

    Raises: CryptoError when the array has another shape or type.
    """
    check_array(public_key, ciphertexts)
    data, size = ciphertexts.tobytes(), public_key.ciphertext_bytes
    return [mpz.from_bytes(data[start : start + size], "big") for start in range(0, len(data), size)]


def check_plaintexts(public_key: PublicKey, plaintexts: Iterable[int], *, signed: bool = False) -> list[mpz]:
    """Return plaintexts as mpz; refuse what is no integer or not in [0, n), signed: (-n, n). Never quotes the value."""
    plaintexts = list(plaintexts)
    kinds = set(map(type, plaintexts))
    if wrong := sorted(kind.__name__ for kind in kinds if kind is bool or not issubclass(kind, (int, mpz, np.integer))):
        raise CryptoError(f"plaintexts must be integers, got {', '.join(wrong)}; pack pixels or slots first")
    numbers = [mpz(m) if isinstance(m, int | mpz) else mpz(int(m)) for m in plaintexts]
    n = public_key.n
    if numbers and not ((-n if signed else -1) < min(numbers) and max(numbers) < n):
        position = next(i for i, m in enumerate(numbers) if not (-n if signed else -1) < m < n)
        raise CryptoError(f"plaintext {position} is not in {'(-n, n)' if signed else '[0, n)'} of the {public_key.key_bits}-bit key")
    return numbers


def check_range(public_key: PublicKey, ciphertexts: np.ndarray, place: str = "") -> None:
    """Refuse rows, uint8 (num_ciphertexts, ciphertext_bytes), that are not in (0, n^2). Raises: CryptoError with the row, after place."""
    limit = np.frombuffer(public_key.n_squared.to_bytes(public_key.ciphertext_bytes, "big"), np.uint8)
    differs = ciphertexts != limit
    first = differs.argmax(axis=1)  # the first byte that differs decides; none does where a row is n^2
    rows = np.arange(len(ciphertexts))
    inside = differs[rows, first] & (ciphertexts[rows, first] < limit[first]) & ciphertexts.any(axis=1)
    if not inside.all():
        raise _out_of_range(public_key, int(inside.argmin()), place)


def _out_of_range(public_key: PublicKey, row: int, place: str = "") -> CryptoError:
    rule = f"is not in (0, n^2) of the {public_key.key_bits}-bit key: damaged, or of another key"
    return CryptoError(f"{place}ciphertext {row} {rule}")


def check_ciphertexts(public_key: PublicKey, ciphertexts: Sequence[mpz]) -> None:
    """Refuse numbers that are not in Z_{n^2}^*, which no encryption gives.

    Raises: CryptoError with the row.
    Cost: one multiplication mod n a ciphertext: their product is tested for a common factor with n.
    """
    n_squared = public_key.n_squared
    if len(ciphertexts) and not (min(ciphertexts) > 0 and max(ciphertexts) < n_squared):
        raise _out_of_range(public_key, next(i for i, c in enumerate(ciphertexts) if not 0 < c < n_squared))
    n = mpz(public_key.n)
    product = mpz(1)
    for c in ciphertexts:
        product = product * c % n
    if gmpy2.gcd(product, n) != 1:
        row = next(i for i, c in enumerate(ciphertexts) if gmpy2.gcd(c, n) != 1)
        raise CryptoError(f"ciphertext {row} has a factor in common with n: no encryption gives such a number")


def invert_batch(numbers: Sequence[mpz], modulus: mpz) -> list[mpz]:
    """Invert many numbers with one inversion and three multiplications each.

    Raises: CryptoError when one of them has no inverse.
    Source: P. Montgomery, "Speeding the Pollard and elliptic curve methods of factorization", Mathematics of
        Computation 48, 1987.
    """
    products = [mpz(1)]
    for number in numbers:
        products.append(products[-1] * number % modulus)
    try:
        inverse = gmpy2.invert(products[-1], modulus)
    except ZeroDivisionError:
        raise CryptoError("a ciphertext has a factor in common with n and cannot be inverted") from None
    result = [mpz(0)] * len(numbers)
    for i in range(len(numbers) - 1, -1, -1):
        result[i] = inverse * products[i] % modulus
        inverse = inverse * numbers[i] % modulus
    return result
