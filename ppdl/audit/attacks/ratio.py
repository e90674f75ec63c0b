"""Divide ciphertexts by one another, and by obfuscators that can be guessed: the plaintext is left.

With the generator g = n + 1 a Paillier ciphertext is c = (1 + m n) r^n mod n^2. Three facts follow, all for whoever has the public key:

- c mod n = r^n mod n depends on the obfuscator alone. Equal residues mean a shared obfuscator, so all pairs are found by hashing, in
  linear time; so is every r of a table.
- Under a shared obfuscator c_i / c_j = 1 + (m_i - m_j) n (mod n^2): the difference of the plaintexts, exactly.
- Under a known one c / r^n = 1 + m n (mod n^2): the plaintext. r = 1 is no randomness at all.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge

from ppdl.audit.attacks.as_is import rows_with
from ppdl.audit.examination import base
from ppdl.crypto.arithmetic.numbers import invert_batch
from ppdl.crypto.arithmetic.powers import powers
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.records.typecheck import Count

_WHITE = 255
_FIRST_PRIME = 4096  # r without a larger prime factor are tried first: 564 powers, where all r up to 2^16 take 6,542


@dataclass(frozen=True, eq=False)
class _Guess:
    """Figures for the report, and images rebuilt: the difference of each pixel to one unknown, for which `num_offsets` values are left."""

    metrics: dict[str, Any]
    rebuilt: base.Rebuilt | None = None
    differences: np.ndarray | None = None  # (k, height, width) int64; None: no one offset for all pixels
    num_offsets: int | None = None


@dataclass(frozen=True)
class Ratio(base.Attack):
    """Divide ciphertexts by one another, and by obfuscators that are known: of r = 1.

    Where a ciphertext stands for one pixel, images follow: exactly from known obfuscators, up to an offset from a shared one. The offset
    is bounded by the range 0..255, and guessed within: where public images are at hand it brings the mean gray to theirs, else it is the
    middle of what is possible. Numbers below n, as a ciphertext is once in n times, are taken for plaintexts.

    Args:
        num_ciphertexts: how many are searched for shared obfuscators, whole images drawn at random; null: all of them.
        num_scored: images that are rebuilt and compared with the originals.
    """

    num_ciphertexts: Annotated[int, Ge(2)] | None
    num_scored: Count

    name: ClassVar[str] = "ratio"
    needs: ClassVar[frozenset[str]] = frozenset({base.CIPHERTEXTS, base.PUBLIC_KEY})
    wants: ClassVar[frozenset[str]] = frozenset({base.SYMBOLS, base.PRIOR})
    knowledge: ClassVar[str] = "the ciphertexts and the public key"
    source: ClassVar[str] = "P. Paillier, Public-Key Cryptosystems Based on Composite Degree Residuosity Classes, EUROCRYPT 1999"

    @property
    def tried_r(self) -> int:
        """Return the largest r that is tried; 1: no randomness."""
        return 1

    def run(self, target: base.Target, rng: np.random.Generator) -> _Guess:
        """Search for shared and small obfuscators, and divide. Cost, for 3072-bit keys: 10 us a ciphertext."""
        rows = base.scored_rows(target.num_images, self.num_scored)
        if target.symbols is not None and target.symbols.codebook is not None:
            return self._divide(target, list(map(_to_int, target.symbols.codebook)), rows, np.asarray(target.symbols.array[rows]))
        num_images, each = target.ciphertexts.shape[:2]
        allowed = num_images if self.num_ciphertexts is None else min(num_images, max(2, self.num_ciphertexts // each))
        one_a_pixel = each == target.height * target.width
        searched = rows_with(rows if one_a_pixel else rows[:0], num_images, allowed, rng)
        numbers = [_to_int(ciphertext) for row in searched for ciphertext in np.asarray(target.ciphertexts[row])]
        places = np.searchsorted(searched, rows)[:, None] * each + np.arange(each) if one_a_pixel else None
        return self._divide(target, numbers, rows, places)

    def _divide(self, target: base.Target, numbers: list[int], rows: np.ndarray, places: np.ndarray | None) -> _Guess:
        """Search ciphertexts, and draw images whose pixels they are: numbers[places]; None: ciphertexts of many pixels each."""
        key = target.public_key
        groups = by_obfuscator(numbers, key)
        small = _small_obfuscators(groups, key, self.tried_r)
        plain = {i: numbers[i] for residue, members in groups.items() if residue not in small for i in members if numbers[i] < key.n}
        again = np.array([len(members) for members in groups.values() if len(members) > 1], np.int64)
        metrics: dict[str, Any] = {
            "num_ciphertexts": len(numbers),
            "shared_obfuscators": int(again.sum()) / max(1, len(numbers)),
            "plaintext_differences_known": int((again * (again - 1) // 2).sum()),
            "small_obfuscators": sum(len(groups[residue]) for residue in small) / max(1, len(numbers)),
            "below_n": len(plain) / max(1, len(numbers)),
        }
        metrics["leak"] = _leak(metrics, max((r for r, _ in small.values()), default=1))
        others = f" or of another r up to {self.tried_r:,} with prime factors up to {_FIRST_PRIME:,}" if self.tried_r > 1 else ""
        metrics["unseen"] = f"two equal obfuscators among {len(numbers):,} ciphertexts, or one of r = 1{others}"
        if places is None or metrics["leak"] is None:
            return _Guess(metrics)
        pixels = np.bincount(places.ravel().astype(np.int64), minlength=len(numbers))
        clear, parts = dict(plain), []
        for residue, everything in groups.items():
            members = [i for i in everything if i not in plain] if pixels[everything].any() else []
            ciphertexts = [numbers[i] for i in members]
            if members and residue in small:
                clear |= zip(members, differences(ciphertexts, small[residue][1], key), strict=True)
            elif len(members) > 1:
                parts.append((members, differences(ciphertexts, ciphertexts[0], key), False))
        parts += [(list(clear), list(clear.values()), True)] if clear else []
        images_mean = None if target.prior is None else float(np.mean(target.prior))
        table = np.full(len(numbers), _WHITE // 2 if images_mean is None else images_mean)
        known, offsets = np.zeros(len(numbers), np.int64), 0
        for members, values, exact in parts:
            table[members], offsets = _place(values, pixels[members], images_mean, exact=exact)
            known[members] = values if offsets else 0
        shape = (len(rows), target.height, target.width)
        rebuilt = base.Rebuilt(rows, np.rint(table).astype(np.uint8)[places].reshape(shape))
        if len(parts) == 1 and offsets and len(parts[0][0]) >= np.count_nonzero(pixels):
            return _Guess(metrics, rebuilt, known[places].reshape(shape), offsets)
        return _Guess(metrics, rebuilt)

    def score(self, guess: _Guess, truth: base.Truth) -> base.Finding:
        """Report the share of reused and of small obfuscators, the number of differences known, and psnr and ssim of rebuilt images."""
        if guess.rebuilt is None:
            return base.Finding(guess.metrics)
        exact = False
        if guess.differences is not None:
            exact = bool(np.ptp(np.asarray(truth.images[guess.rebuilt.rows]).astype(np.int64) - guess.differences) == 0)
        metrics = {"exact_up_to_offset": exact, "num_offsets": guess.num_offsets} | base.score_rebuilt(guess.rebuilt, truth)
        return base.Finding(guess.metrics | metrics, guess.rebuilt)


def by_obfuscator(ciphertexts: Iterable[int], public_key: PublicKey) -> dict[int, list[int]]:
    """Group ciphertexts by their residue mod n: {residue: positions}. Equal residues mean one obfuscator."""
    groups = defaultdict(list)
    for position, ciphertext in enumerate(ciphertexts):
        groups[ciphertext % public_key.n].append(position)
    return groups


def differences(ciphertexts: Sequence[int], reference: int, public_key: PublicKey) -> list[int]:
    """Return plaintexts less that of `reference`, between -n/2 and n/2; all must share an obfuscator.

    With y = c mod n, c = y + u n, and c_i / c_j = 1 + d n (mod n^2) says u_i - u_j = d y (mod n): one inverse for all.
    """
    n = public_key.n
    inverse = invert_batch([reference % n], n)[0]
    found = [int((ciphertext - reference) // n * inverse % n) for ciphertext in ciphertexts]
    return [d if d <= n // 2 else d - n for d in found]


@lru_cache(maxsize=1)  # the null of a folder's audit asks for the same
def small_powers(key: PublicKey, largest: int, largest_prime: int) -> dict[int, tuple[int, int]]:
    """Return {r^n mod n: (r, r^n mod n^2)} for r up to `largest` that have no prime factor above `largest_prime`."""
    factor = np.arange(largest + 1)
    for p in range(2, int(largest**0.5) + 1):
        factor[p * p :: p] = np.minimum(factor[p * p :: p], p if factor[p] == p else largest)
    primes = [r for r in range(2, min(largest, largest_prime) + 1) if factor[r] == r]
    found = {1: 1} | {r: int(power) for r, power in zip(primes, powers(primes, key.n, key.n, private=False), strict=True)}
    for r in range(4, largest + 1):
        if (p := int(factor[r])) < r and p in found and r // p in found:
            found[r] = found[p] * found[r // p] % key.n_squared
    return {power % key.n: (r, power) for r, power in found.items()}


def _small_obfuscators(residues: Iterable[int], key: PublicKey, largest: int) -> dict[int, tuple[int, int]]:
    """Return r and r^n mod n^2 of each residue r^n mod n whose r is found: see `Obfuscators`."""
    found: dict[int, tuple[int, int]] = {}
    for prime in (_FIRST_PRIME, largest):
        table = small_powers(key, largest, prime)
        found = {residue: table[residue] for residue in residues if residue in table}
        if largest <= prime or not any(r > 1 for r, _ in found.values()):
            break
    return found


def _leak(metrics: Mapping[str, Any], largest: int) -> str | None:
    small, shared, below = (metrics[key] for key in ("small_obfuscators", "shared_obfuscators", "below_n"))
    said = []
    if small:
        r = "r = 1" if largest == 1 else f"small (r up to {largest:,})"
        said.append(f"{small:.1%} of the obfuscators are {r}, which gives plaintexts exactly")
    if shared > small:
        said.append(f"{shared:.1%} of the obfuscators occur again, which gives differences of plaintexts exactly")
    if below:
        said.append(f"{below:.1%} of the numbers are below n, as a ciphertext is once in n times: they were never encrypted under this key")
    return "; ".join(said) or None


def _place(values: list[int], pixels: np.ndarray, images_mean: float | None, *, exact: bool) -> tuple[np.ndarray, int]:
    """Return gray values (num_members,) for plaintexts that are known exactly or up to an offset, and how many offsets there are.

    Plaintexts that span more than 0..255 are no pixels as they are: no offset fits, and they are stretched over the range instead.
    """
    lowest, span = min(values), max(values) - min(values)
    if span > _WHITE:
        return np.array([_WHITE * (value - lowest) / span for value in values]), 0
    if exact and 0 <= lowest <= lowest + span <= _WHITE:
        return np.array(values, float), 1
    above = np.array([value - lowest for value in values], float)
    room = _WHITE - span  # the lowest plaintext is between 0 and this
    if images_mean is None or not pixels.sum():
        return above + room // 2, room + 1
    return above + np.clip(np.rint(images_mean - np.average(above, weights=pixels)), 0, room), room + 1


def _to_int(row: np.ndarray) -> int:
    return int.from_bytes(row.tobytes(), "big")
