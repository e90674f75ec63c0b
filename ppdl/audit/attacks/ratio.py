"""Find ciphertexts under a shared obfuscator, and divide them: what it hides then cancels.

With the generator g = n + 1 a Paillier ciphertext is c = (1 + m n) r^n mod n^2. Two facts follow, both for whoever has the public key:

- c mod n = r^n mod n depends on the obfuscator alone. Equal residues mean a shared obfuscator, so all pairs are found by hashing, in
  linear time.
- Under a shared obfuscator c_i / c_j = 1 + (m_i - m_j) n (mod n^2): the difference of the plaintexts, exactly.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge

from ppdl.audit.examination import base
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.records.typecheck import Count

_WHITE = 255


@dataclass(frozen=True, eq=False)
class _Shared:
    """Which ciphertexts share an obfuscator, as counts for the report."""

    num_ciphertexts: int
    num_shared: int  # ciphertexts whose obfuscator occurs again
    num_pairs: int  # pairs under one obfuscator: so many differences are known


@dataclass(frozen=True, eq=False)
class _Guess:
    """Images rebuilt from symbols: the difference of each pixel to a common unknown, which `num_offsets` values are possible for."""

    shared: _Shared
    rebuilt: base.Rebuilt | None = None
    differences: np.ndarray | None = None  # (k, height, width) int64; None: no one offset for all symbols
    num_offsets: int | None = None


@dataclass(frozen=True)
class Ratio(base.Attack):
    """Divide ciphertexts by one another.

    Where symbols stand for pixels, every image follows up to one offset. The offset is bounded by the range 0..255, and guessed within:
    where public images are at hand it brings the mean gray to theirs, else it is the middle of what is possible.

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

    def run(self, target: base.Target, rng: np.random.Generator) -> _Guess:
        """Search for shared obfuscators and divide. Cost: some 10 us a ciphertext of 3072-bit keys."""
        key = target.public_key
        if target.symbols is not None and target.symbols.codebook is not None:
            ciphertexts = [_to_int(row) for row in target.symbols.codebook]
            return self._rebuild(target, ciphertexts, _summary(ciphertexts, key))
        return _Guess(_summary(self._sample(target.ciphertexts, rng), key))

    def _sample(self, by_image: Any, rng: np.random.Generator) -> Iterator[int]:
        """Read the ciphertexts of as many images as the number allows, at least two."""
        num_images, each = by_image.shape[:2]
        allowed = num_images if self.num_ciphertexts is None else min(num_images, max(2, self.num_ciphertexts // each))
        for row in np.sort(rng.choice(num_images, allowed, replace=False)):
            yield from map(_to_int, np.asarray(by_image[row]))

    def _rebuild(self, target: base.Target, ciphertexts: list[int], shared: _Shared) -> _Guess:
        rows = base.scored_rows(target.num_images, self.num_scored)
        symbols = np.asarray(target.symbols.array[rows])
        groups = by_obfuscator(ciphertexts, target.public_key)
        table, known = np.zeros(len(ciphertexts)), np.zeros(len(ciphertexts), np.int64)
        images_mean = None if target.prior is None else float(np.mean(target.prior))
        offsets = 0
        for members in groups.values():
            differences = [difference(ciphertexts[i], ciphertexts[members[0]], target.public_key) for i in members]
            pixels = np.bincount(symbols.ravel().astype(np.int64), minlength=len(ciphertexts))[members]
            table[members], offsets = _place(differences, pixels, images_mean)
            if offsets:
                known[members] = differences
        rebuilt = base.Rebuilt(rows, np.rint(table).astype(np.uint8)[symbols])
        return _Guess(shared, rebuilt, known[symbols], offsets) if len(groups) == 1 and offsets else _Guess(shared, rebuilt)

    def score(self, guess: _Guess, truth: base.Truth) -> base.Finding:
        """Report the share of reused obfuscators, the number of differences known, and psnr and ssim where images were rebuilt."""
        shared = guess.shared
        metrics: dict[str, Any] = {
            "num_ciphertexts": shared.num_ciphertexts,
            "shared_obfuscators": shared.num_shared / max(1, shared.num_ciphertexts),
            "plaintext_differences_known": shared.num_pairs,
        }
        if guess.rebuilt is None:
            return base.Finding(metrics)
        exact = False
        if guess.differences is not None:
            exact = bool(np.ptp(np.asarray(truth.images[guess.rebuilt.rows]).astype(np.int64) - guess.differences) == 0)
        metrics |= {"exact_up_to_offset": exact, "num_offsets": guess.num_offsets} | base.score_rebuilt(guess.rebuilt, truth)
        return base.Finding(metrics, guess.rebuilt)


def by_obfuscator(ciphertexts: Iterable[int], public_key: PublicKey) -> dict[bytes, list[int]]:
    """Group ciphertexts by their residue mod n: {residue: positions}. Equal residues mean one obfuscator."""
    groups = defaultdict(list)
    size = (public_key.key_bits + 7) // 8
    for position, ciphertext in enumerate(ciphertexts):
        groups[(ciphertext % public_key.n).to_bytes(size, "big")].append(position)
    return groups


def difference(ciphertext: int, other: int, public_key: PublicKey) -> int:
    """Return the plaintext of `ciphertext` less that of `other`, between -n/2 and n/2; both must share an obfuscator."""
    quotient = ciphertext * pow(other, -1, public_key.n_squared) % public_key.n_squared
    result = (quotient - 1) // public_key.n
    return result if result <= public_key.n // 2 else result - public_key.n


def _place(differences: list[int], pixels: np.ndarray, images_mean: float | None) -> tuple[np.ndarray, int]:
    """Return gray values (num_members,) for plaintexts known up to an offset, and how many offsets there are.

    Plaintexts that span more than 0..255 are no pixels as they are: no offset fits, and they are stretched over the range instead.
    """
    lowest, span = min(differences), max(differences) - min(differences)
    if span > _WHITE:
        return np.array([_WHITE * (d - lowest) / span for d in differences]), 0
    above = np.array([d - lowest for d in differences], float)
    room = _WHITE - span  # the lowest plaintext is between 0 and this
    if images_mean is None or not pixels.sum():
        return above + room // 2, room + 1
    return above + np.clip(np.rint(images_mean - np.average(above, weights=pixels)), 0, room), room + 1


def _summary(ciphertexts: Iterable[int], public_key: PublicKey) -> _Shared:
    groups = by_obfuscator(ciphertexts, public_key)
    sizes = np.array([len(members) for members in groups.values()], np.int64)
    reused = sizes[sizes > 1]
    return _Shared(int(sizes.sum()), int(reused.sum()), int((reused * (reused - 1) // 2).sum()))


def _to_int(row: np.ndarray) -> int:
    return int.from_bytes(row.tobytes(), "big")
