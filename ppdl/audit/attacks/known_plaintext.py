"""Learn what each symbol stands for from images that the attacker holds in the clear as well."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import MinLen

from ppdl.audit.attacks.histogram import UNKNOWN, symbol_counts
from ppdl.audit.attacks.known_images import numbers
from ppdl.audit.examination.base import KNOWN, SYMBOLS, Attack, Finding, Rebuilt, Target, Truth, score_rebuilt, scored_rows
from ppdl.errors import AttackDoesNotApply
from ppdl.protections.schemes.seriation import co_occurrence
from ppdl.records.typecheck import Count


@dataclass(frozen=True, eq=False)
class _Dictionaries:
    """Rebuilt images and share of symbols known, by number of known images; `complete_after` many were enough for all symbols."""

    by_count: dict[int, tuple[Rebuilt, float]]
    complete_after: int | None


@dataclass(frozen=True)
class KnownPlaintext(Attack):
    """Read a dictionary symbol -> gray value off pairs of image and protected image.

    A symbol that no known image shows gets the mean value of the symbols that stand beside it.

    Args:
        num_known: numbers of known images to report; those beyond what the attacker holds are left out.
        num_scored: images that are rebuilt and compared with the originals; never known ones.
    """

    num_known: Annotated[tuple[Count, ...], MinLen(1)]
    num_scored: Count

    name: ClassVar[str] = "known_plaintext"
    needs: ClassVar[frozenset[str]] = frozenset({SYMBOLS, KNOWN})
    knowledge: ClassVar[str] = "the ciphertexts and some of the images in the clear"
    source: ClassVar[str] = "A. Kerckhoffs, La cryptographie militaire, Journal des sciences militaires 9, 1883: known plaintext"

    def run(self, target: Target, rng: np.random.Generator) -> _Dictionaries:
        """Learn from the first known images of each number. Cost: reads every symbol of the set once."""
        symbols, known = target.symbols, target.known
        counts = numbers(self.num_known, len(known.rows))
        rows = self._rows(target)
        protected = np.stack([np.asarray(symbols.array[row]) for row in known.rows])  # in the order of the known images
        occurring = symbol_counts(symbols.array, symbols.num_symbols) > 0
        shown = np.asarray(symbols.array[rows])
        pairs = co_occurrence(symbols.array, np.concatenate([rows, known.rows]), symbols.num_symbols)
        by_count = {}
        for count in counts:
            table, told = learn(protected[:count], known.images[:count], pairs)
            by_count[count] = Rebuilt(rows, table[shown]), float(np.mean(told[occurring]))
        return _Dictionaries(by_count, _complete_after(protected, known.images, occurring))

    def _rows(self, target: Target) -> np.ndarray:
        """Return the rows to rebuild: those of the other attacks, less the known ones."""
        known = target.known.rows
        unknown = np.setdiff1d(np.arange(target.num_images), known)
        if not len(known) or not len(unknown):
            raise AttackDoesNotApply(
                f"{len(known)} of {target.num_images} images are known: one must be to learn from, and one not, to rebuild"
            )
        rows = np.setdiff1d(scored_rows(target.num_images, self.num_scored), known)
        return rows if len(rows) else unknown[scored_rows(len(unknown), self.num_scored)]

    def score(self, guess: _Dictionaries, truth: Truth) -> Finding:
        """Report psnr, ssim and dictionary_complete by number of known images; the headline is the largest, `headline_known`."""
        by_count = {
            str(count): score_rebuilt(rebuilt, truth) | {"dictionary_complete": complete}
            for count, (rebuilt, complete) in guess.by_count.items()
        }
        largest = max(guess.by_count)
        metrics = by_count[str(largest)] | {
            "headline_known": largest,
            "complete_after": guess.complete_after,
            "by_count": by_count,
        }
        return Finding(metrics, guess.by_count[largest][0])


def learn(symbols: np.ndarray, images: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a gray value for each symbol, (num_symbols,) uint8, and whether it is known, (num_symbols,) bool.

    A symbol is known if it always stood for the same value, so that noise, where each symbol stands for anything, is not.

    Args:
        symbols, images: (num_known, height, width), pixel by pixel the same images.
        pairs: (num_symbols, num_symbols) counts of neighbours, which place the symbols that were not seen.
    """
    num_symbols = len(pairs)
    flat, values = symbols.ravel().astype(np.int64), images.ravel().astype(np.float64)
    counts, sums, squares = (np.bincount(flat, weights, num_symbols) for weights in (np.ones(len(flat)), values, values**2))
    placed = counts > 0
    known = placed & (counts * squares == sums**2)  # no variance; the sums are exact
    table = np.divide(sums, counts, out=np.full(num_symbols, float(UNKNOWN)), where=placed)
    while True:  # outwards from the symbols that were seen, one neighbour a round
        weights = pairs * placed
        new = ~placed & (weights.sum(1) > 0)
        if not new.any():
            return np.rint(table).astype(np.uint8), known
        table[new] = weights[new] @ table / weights[new].sum(1)
        placed |= new


def _complete_after(protected: np.ndarray, images: np.ndarray, occurring: np.ndarray) -> int | None:
    """Return how many of the known images tell every symbol that occurs, or None if all of them together do not."""
    nothing_beside = np.zeros((len(occurring), len(occurring)))
    for count in range(1, len(protected) + 1):
        if learn(protected[:count], images[:count], nothing_beside)[1][occurring].all():
            return count
    return None
