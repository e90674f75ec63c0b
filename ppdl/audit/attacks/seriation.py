"""Rebuild images from symbols alone: order the symbols by what stands side by side, then read gray values off the order.

No key is needed, not even the public one. ppdl.audit.attacks.ordering finds the order, ppdl.audit.attacks.histogram turns it into gray
values with the help of public images of other people.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import MinLen
from threadpoolctl import threadpool_limits

from ppdl.audit.attacks.histogram import UNKNOWN, values_in_order
from ppdl.audit.attacks.ordering import likeliest_order
from ppdl.audit.examination.base import PRIOR, SYMBOLS, Attack, Finding, Rebuilt, Target, Truth, score_rebuilt, scored_rows
from ppdl.errors import AttackDoesNotApply
from ppdl.protections.schemes.seriation import co_occurrence
from ppdl.records.typecheck import Count

_ENOUGH_SSIM = 0.8  # `images_needed` is the smallest size that reaches it; SSIM at every size stands beside it
_HEADLINE_IMAGES = 100  # the count behind psnr, ssim and rank_correlation, where the set has that many


@dataclass(frozen=True, eq=False)
class _Draw:
    """What was rebuilt from `num_images` images: the rows of them that are scored, their symbols, and a gray value for each symbol."""

    num_images: int
    rows: np.ndarray
    symbols: np.ndarray
    table: np.ndarray

    @property
    def rebuilt(self) -> Rebuilt:
        return Rebuilt(self.rows, self.table[self.symbols])


@dataclass(frozen=True)
class Seriation(Attack):
    """Rebuild images from sets of several sizes, to tell how many an attacker needs.

    Each set holds images that are scored and others drawn at random, so that it is scored on nothing that the attacker had not.

    Args:
        num_images: sizes of the sets; null is all images. Larger ones than the protected set are left out.
        num_repeats: sets of each size below num_scored; their figures are averaged. Larger sets are drawn once.
        num_scored: images that are rebuilt and compared with the originals.
    """

    num_images: Annotated[tuple[Count | None, ...], MinLen(1)]
    num_repeats: Count
    num_scored: Count

    name: ClassVar[str] = "seriation"
    needs: ClassVar[frozenset[str]] = frozenset({SYMBOLS, PRIOR})
    knowledge: ClassVar[str] = "the ciphertexts and public images of other people"
    source: ClassVar[str] = (
        "J. E. Atkins, E. G. Boman, B. Hendrickson, A Spectral Algorithm for Seriation and the Consecutive Ones Problem, "
        "SIAM Journal on Computing 28(1), 1998"
    )

    def run(self, target: Target, rng: np.random.Generator) -> dict[str, list[_Draw]]:
        """Rebuild from each size of set. Cost: some 0.25 s a set, and for all images 20 ns a pixel."""
        draws = {}
        with threadpool_limits(1):  # threads cost more than they bring on 256 x 256, tenfold where cores are busy
            for label, count in self._sizes(target.num_images).items():
                repeats = self.num_repeats if count < min(self.num_scored, target.num_images) else 1
                draws[label] = [self._attack(target, count, rng) for _ in range(repeats)]
        return draws

    def _sizes(self, available: int) -> dict[str, int]:
        """Return sizes by their label in the report, ascending."""
        sizes = {str(count): count for count in sorted({c for c in self.num_images if c is not None and c <= available})}
        if None in self.num_images:
            sizes["all"] = available
        if not sizes:
            raise AttackDoesNotApply(f"seriation.num_images asks for more than the {available} images that there are")
        return sizes

    def _attack(self, target: Target, count: int, rng: np.random.Generator) -> _Draw:
        shown = scored_rows(target.num_images, self.num_scored)
        if count <= len(shown):
            shown = read = np.sort(rng.choice(shown, count, replace=False))
        else:
            others = np.setdiff1d(np.arange(target.num_images), shown)
            read = np.sort(np.concatenate([shown, rng.choice(others, count - len(shown), replace=False)]))
        table = gray_table(target.symbols.array, read, target.symbols.num_symbols, target.prior)
        return _Draw(count, shown, np.asarray(target.symbols.array[shown]), table)

    def score(self, guess: dict[str, list[_Draw]], truth: Truth) -> Finding:
        """Report psnr, ssim and rank_correlation by size; the headline is at 100 images or the largest size, `headline_images`."""
        by_count = {label: _means([_score_draw(draw, truth) for draw in draws]) for label, draws in guess.items()}
        largest = max(guess, key=lambda label: guess[label][0].num_images)
        headline = str(_HEADLINE_IMAGES) if str(_HEADLINE_IMAGES) in guess else largest
        enough = [guess[label][0].num_images for label, figures in by_count.items() if figures["ssim"] >= _ENOUGH_SSIM]
        metrics = by_count[headline] | {
            "headline_images": guess[headline][0].num_images,
            "images_needed": min(enough, default=None),
            "by_count": by_count,
        }
        return Finding(metrics, guess[headline][0].rebuilt)


def gray_table(symbols: Any, rows: np.ndarray, num_symbols: int, prior: np.ndarray) -> np.ndarray:
    """Guess the gray value of each symbol, (num_symbols,) uint8.

    Args:
        symbols: (num_images, height, width) integers below `num_symbols`, read at `rows`.
        prior: (num_prior, height, width) uint8 images of other people, of the same height and width.
    """
    pairs = co_occurrence(symbols, rows, num_symbols)
    order = likeliest_order(pairs)
    counts, gray_sums = _count(symbols, rows, num_symbols, prior.mean(0, dtype=np.float64))
    order = order[counts[order] > 0]
    # Dark or bright: the symbols that stand where people are bright are the bright ones. Weighted by pixels, over all positions.
    place = np.arange(len(order)) - np.average(np.arange(len(order)), weights=counts[order]) if len(order) else np.zeros(0)
    if place @ gray_sums[order] < 0:
        order = order[::-1]
    table = np.full(num_symbols, UNKNOWN, np.uint8)
    lost = np.setdiff1d(np.flatnonzero(counts), order)  # beside none of the others: the mean of people at their positions
    table[lost] = np.rint(gray_sums[lost] / counts[lost])
    if len(order):
        table[order] = np.rint(values_in_order(counts[order], prior, len(rows)))
    return table


def _count(symbols: Any, rows: np.ndarray, num_symbols: int, mean_image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels of each symbol, and the sum of `mean_image` over their positions: twice (num_symbols,)."""
    counts, gray_sums = np.zeros(num_symbols, np.int64), np.zeros(num_symbols)
    for row in rows:
        image = np.asarray(symbols[row]).ravel().astype(np.int64)
        counts += np.bincount(image, minlength=num_symbols)
        gray_sums += np.bincount(image, mean_image.ravel(), num_symbols)
    return counts, gray_sums


def _score_draw(draw: _Draw, truth: Truth) -> dict[str, float]:
    from scipy.stats import spearmanr

    original = np.asarray(truth.images[draw.rows]).ravel()
    symbols = draw.symbols.ravel().astype(np.int64)
    counts = np.bincount(symbols, minlength=len(draw.table))
    seen = np.flatnonzero(counts)
    true_values = np.bincount(symbols, original, len(draw.table))[seen] / counts[seen]
    guessed = draw.table[seen]
    varied = len(np.unique(guessed)) > 1 and len(np.unique(true_values)) > 1
    correlation = float(spearmanr(guessed, true_values)[0]) if varied else 0.0
    return score_rebuilt(draw.rebuilt, truth) | {"rank_correlation": correlation}


def _means(figures: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([each[key] for each in figures])) for key in figures[0]}
