"""Evaluate a secret linear head on one image's encrypted features: an inner product inside few ciphertexts.

With B = 2^slot_bits, a ciphertext holds t features in ascending slots, F_j = sum f_i B^i, and a class has t weights in descending slots,
W_j = sum w_i B^(t-1-i). In sum_j F_j W_j the slot t - 1 is the inner product. Multiplying the plaintext of a ciphertext by W_j is a power
of it, so the server needs the public key only. Its answer, one ciphertext a class, holds

    P = low + 2^middle (logit + 2^(logit_bits - 1)) + 2^(middle + logit_bits) high,      middle = slot_bits (t - 1)

The other 2 t - 2 slots are partial sums. They would give away the weights, so the server adds a fresh random number to all slots below the
logit together (`low`), and one to all above it (`high`). Then it re-randomises, for the client knows the randomness of what it sent.

Exactness. Let V = num_features * max f * max |w|. A slot of the product is a sum of at most num_features products, so |slot| <= V. The
slots below the logit add up to at most A = V (B^(t-1) - 1) / (B - 1) in size, and their mask is drawn from [A, B^(t-1) - A): low is in
[0, B^(t-1)), so that nothing is carried into the logit or borrowed from it. The slots above it are treated likewise in what is left of
key_bits - HEADROOM_BITS bits: high is not negative, and P < 2^(key_bits - 8) < n. And |logit| <= V + |bias| <= 2 V < 2^(logit_bits - 1).
So P is the same number over the integers as mod n, and its middle bits are the logit.

Statistical gap. A uniform number out of a range of size M, added to a or to b, gives distributions at a distance of |a - b| / M. Here
|a - b| <= 2 A, and slot_bits is the smallest with 2 V (2^mask_bits + 1) < B, which makes 2 A / (B^(t-1) - 2 A) less than 2^-mask_bits; the
same above. So whatever the weights are, what a client with in-range plaintexts sees beside its logit is within 2 * 2^-mask_bits of a
distribution that it can draw from itself. Distances add up over classes and queries.

A hostile client may encrypt any number mod n, and ciphertexts cannot show it. The masks then need not hide everything, but P mod n has
key_bits bits and the masks all but logit_bits + HEADROOM_BITS of them of entropy. So an answer gives away at most `hostile_bits` bits about
the weights of its class, however the request was made up, given that gcd(n, phi(n)) = 1, which modulus_proof.py checks.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from gmpy2 import mpz

from ppdl.crypto.arithmetic.derived import Randbelow
from ppdl.crypto.arithmetic.engine import GMPY2, engine
from ppdl.crypto.arithmetic.multiexp import StrausPlan
from ppdl.crypto.arithmetic.numbers import to_array
from ppdl.crypto.arithmetic.obfuscators import Obfuscators, random_unit
from ppdl.crypto.arithmetic.packing import HEADROOM_BITS
from ppdl.crypto.arithmetic.paillier import add_plaintext, decrypt_batch, encrypt_batch
from ppdl.crypto.arithmetic.powers import powers
from ppdl.crypto.inner_product.checks import LARGEST_MASK_BITS, LEAST_MASK_BITS, HeadPacking, check_features, check_head, read_ciphertexts
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey
from ppdl.errors import CryptoError

if TYPE_CHECKING:
    from ppdl.crypto.arithmetic.vector.multiexp import LaneProducts


@dataclass(frozen=True)
class InnerPacking(HeadPacking):
    """Lay out one image's features for inner products: 15 features in each of 86 ciphertexts at 2048 bits and 1,280 features.

    Args:
        feature_bits: of unsigned features, 1 to 8.
        weight_bits: of signed weights, 2 to 8.
        mask_bits: what a client sees beside the logit depends on the weights by a statistical distance below 2 * 2^-mask_bits.

    Raises: CryptoError when a size is out of its range, or the key is too short for one feature.
    """

    mask_bits: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        if not LEAST_MASK_BITS <= self.mask_bits <= LARGEST_MASK_BITS:
            raise CryptoError(f"mask_bits must be {LEAST_MASK_BITS} to {LARGEST_MASK_BITS}, got {self.mask_bits}")
        if self.slot_bits + HEADROOM_BITS > self.key_bits:
            raise CryptoError(f"key_bits must be at least {self.slot_bits + HEADROOM_BITS} for one such feature, got {self.key_bits}")

    @property
    def slot_bits(self) -> int:
        return (2 * self.largest * ((1 << self.mask_bits) + 1)).bit_length()

    @property
    def features_per_ciphertext(self) -> int:
        slots = (self.key_bits - HEADROOM_BITS) // self.slot_bits  # of the product: 2 t - 1
        return min((slots + 1) // 2, self.num_features)

    @property
    def num_ciphertexts(self) -> int:
        return -(-self.num_features // self.features_per_ciphertext)

    @property
    def middle(self) -> int:
        """Bits below the logit."""
        return self.slot_bits * (self.features_per_ciphertext - 1)

    @property
    def hostile_bits(self) -> int:
        """Bits about the weights of a class that an answer can give away at most, whatever the client encrypted.

        log2 n less the entropy of the masks, rounded up. Without masks it would be key_bits.
        """
        return self.logit_bits + HEADROOM_BITS + (self.features_per_ciphertext > 1)

    def mask_ranges(self) -> tuple[range, range]:
        """Return where the masks below and above the logit are drawn from. Without partial sums below (t = 1) it is [0, 1)."""
        other_slots = self.features_per_ciphertext - 1
        partial = self.largest * (((1 << self.slot_bits * other_slots) - 1) // ((1 << self.slot_bits) - 1))
        above = partial << (self.slot_bits - self.logit_bits)
        room = self.key_bits - HEADROOM_BITS - self.middle - self.logit_bits
        return range(partial, (1 << self.middle) - partial), range(above, (1 << room) - above)

    def pack(self, features: np.ndarray) -> list[int]:
        """Pack unsigned features (num_features,) into num_ciphertexts plaintexts, the first feature of each in its lowest slot."""
        check_features(features, (self.num_features,), self.feature_bits)
        return [_join(block, self.slot_bits) for block in self._blocks(features)]

    def unpack(self, plaintexts: Sequence[int]) -> np.ndarray:
        """Read the logits from answers' plaintexts: int64 (num_plaintexts,). Raises: CryptoError for what no answer holds."""
        self.check_answers(plaintexts)
        half = 1 << (self.logit_bits - 1)
        return np.array([int(m >> self.middle) % (2 * half) - half for m in plaintexts], np.int64)

    def exponents(self, weights: np.ndarray) -> list[list[int]]:
        """Return W_j of each class, (num_classes, num_ciphertexts): the first weight of each in its highest slot."""
        return [[_join(block[::-1], self.slot_bits) for block in self._blocks(row)] for row in weights]

    def _blocks(self, values: np.ndarray) -> list[list[int]]:
        size = self.features_per_ciphertext
        return np.pad(values.astype(np.int64), (0, self.num_ciphertexts * size - len(values))).reshape(-1, size).tolist()


class InnerHead:
    """Evaluate one head on many images: what depends on weights and packing alone is computed once.

    Args:
        weights: integers (num_classes, num_features) of packing.weight_bits bits.
        bias: integers (num_classes,), at most packing.largest in size.

    Raises: CryptoError when weights or bias do not fit the packing.
    """

    def __init__(self, weights: np.ndarray, bias: np.ndarray, packing: InnerPacking) -> None:
        self.packing = packing
        self._bias = check_head(weights, bias, packing)
        self._exponents = packing.exponents(np.asarray(weights))
        self._plan = StrausPlan(self._exponents)

    def evaluate(self, public_key: PublicKey, ciphertexts: np.ndarray, randbelow: Randbelow = secrets.randbelow) -> np.ndarray:
        """Evaluate the head on one image's ciphertexts, mask what is not the logit, and re-randomise.

        Args:
            ciphertexts: uint8 (num_ciphertexts, ciphertext_bytes) from encrypt_features.
            randbelow: draws masks and randomness; two answers to one request must have the same, see derived.py.
        Returns: uint8 (num_classes, ciphertext_bytes).
        Raises: CryptoError when the key is of another length, or a ciphertext is missing, out of range or not prime to n.
        Cost: with gmpy2 10,000 multiplications for 3 classes at 2048 bits (50 ms), and a `standard` obfuscator a class (9 ms).
        """
        self.packing.check_key(public_key)
        numbers = read_ciphertexts(public_key, ciphertexts, self.packing.num_ciphertexts)
        added = [self._added(bias, randbelow) for bias in self._bias]
        units = [mpz(random_unit(public_key.n, randbelow)) for _ in added]
        return add_plaintext(public_key, to_array(public_key, self._products(public_key, numbers, units)), added)

    def _products(self, public_key: PublicKey, numbers: list[mpz], units: list[mpz]) -> list[mpz]:
        """Return the inner product of each class, times a `standard` obfuscator: r^n of its unit."""
        n, n_squared = public_key.n, mpz(public_key.n_squared)
        if engine() == GMPY2:
            products = zip(self._plan.products(numbers, n_squared), powers(units, n, n, private=False), strict=True)
            return [product * obfuscator % n_squared for product, obfuscator in products]
        from ppdl.crypto.arithmetic.vector.ring import Ring

        return self._lanes.products(Ring(n), numbers, units, n)

    @cached_property
    def _lanes(self) -> LaneProducts:
        from ppdl.crypto.arithmetic.vector.multiexp import LaneProducts

        return LaneProducts(self._exponents, self.packing.key_bits)

    def _added(self, bias: int, randbelow: Randbelow) -> int:
        """Return what is added to one class: the masks, the bias, and 2^(logit_bits - 1), which makes the logit positive."""
        below, above = (draw(numbers, randbelow) for numbers in self.packing.mask_ranges())
        middle, bits = self.packing.middle, self.packing.logit_bits
        return below + ((bias + (1 << (bits - 1))) << middle) + (above << (middle + bits))


def draw(numbers: range, randbelow: Randbelow) -> int:
    """Draw a uniform one of consecutive numbers."""
    return numbers.start + randbelow(numbers.stop - numbers.start)


def encrypt_features(public_key: PublicKey, features: np.ndarray, packing: InnerPacking, *, obfuscators: Obfuscators) -> np.ndarray:
    """Encrypt one image's features, as the client.

    Args:
        features: uint8 (num_features,).
        obfuscators: of the same key; the private key's own are faster.
    Returns: uint8 (num_ciphertexts, ciphertext_bytes).
    Raises: CryptoError when features do not fit the packing or the key is of another length.
    Cost: an obfuscator a ciphertext: 86 * 0.4 ms at 2048 bits with `djn`.
    """
    packing.check_key(public_key)
    return encrypt_batch(public_key, packing.pack(features), obfuscators)


def decrypt_logits(private_key: PrivateKey, ciphertexts: np.ndarray, packing: InnerPacking) -> np.ndarray:
    """Decrypt an answer, as the client: int64 logits, (num_classes,), exactly those of the integer head.

    Never tell the server anything that depends on the result: it may have answered with other ciphertexts that it wants to be decrypted.

    Raises: CryptoError when a ciphertext is damaged or of another key.
    """
    packing.check_key(private_key.public)
    return packing.unpack(decrypt_batch(private_key, ciphertexts))


def _join(values: list[int], slot_bits: int) -> int:
    return sum(value << (i * slot_bits) for i, value in enumerate(values))
