"""Match symbols to gray values by how often they occur, as one breaks a substitution cipher on text. The weaker baseline."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ppdl.audit.attacks.histogram import UNKNOWN, symbol_counts, value_counts
from ppdl.audit.examination.base import PRIOR, SYMBOLS, Attack, Rebuilt, Target, scored_rows
from ppdl.records.typecheck import Count


@dataclass(frozen=True)
class Frequency(Attack):
    """Give the k-th most frequent symbol the k-th most frequent gray value of public images.

    Gray values are no letters: their histogram is flat, so that neighbours in frequency are no neighbours in gray, and this attack does
    poorly where seriation succeeds. A symbol beyond the values that public images show becomes middle gray.

    Args:
        num_scored: images that are rebuilt and compared with the originals.
    """

    num_scored: Count

    name: ClassVar[str] = "frequency"
    needs: ClassVar[frozenset[str]] = frozenset({SYMBOLS, PRIOR})
    knowledge: ClassVar[str] = "the ciphertexts and public images of other people"
    source: ClassVar[str] = "al-Kindi, on deciphering cryptographic messages (9th century): frequency analysis"

    def run(self, target: Target, rng: np.random.Generator) -> Rebuilt:
        """Rebuild by frequency. Cost: reads every symbol of the set once."""
        counts, public = symbol_counts(target.symbols.array, target.symbols.num_symbols), value_counts(target.prior)
        by_count = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        by_frequency = np.argsort(-public, kind="stable")[: np.count_nonzero(public)]
        table = np.full(len(counts), UNKNOWN, np.uint8)
        shared = min(len(by_count), len(by_frequency))
        table[by_count[:shared]] = by_frequency[:shared]
        rows = scored_rows(target.num_images, self.num_scored)
        return Rebuilt(rows, table[np.asarray(target.symbols.array[rows])])
