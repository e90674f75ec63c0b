"""Rebuild images from symbols where each image has a table of its own: seriation of one image at a time."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from ppdl.audit.attacks.seriation import gray_table
from ppdl.audit.examination import base
from ppdl.audit.examination.chance import FALSE_ALARM, p_value
from ppdl.records.typecheck import Count


@dataclass(frozen=True)
class SeriationEach(base.Attack):
    """Order the symbols of each image by what stands side by side in it, as `seriation` does for all images together.

    A random table leaves nothing in common to the symbols of adjacent ranks. Where one XOR of the two is frequent, a pixel becomes either
    of two symbols that belong together, as where its highest bit is hidden or it is inverted by a key bit: symbols are ordered well then,
    but folded, and the images are a part of the originals at most.

    Attributes:
        num_images: images that are rebuilt, each from itself alone; some 0.3 s each for 256 symbols.
    """

    num_images: Count

    name: ClassVar[str] = "seriation_each"
    needs: ClassVar[frozenset[str]] = frozenset({base.SYMBOLS, base.PRIOR})
    knowledge: ClassVar[str] = "the ciphertexts and public images of other people"
    source: ClassVar[str] = "J. E. Atkins, E. G. Boman, B. Hendrickson, SIAM Journal on Computing 28(1), 1998"

    def run(self, target: base.Target, rng: np.random.Generator) -> tuple[base.Rebuilt, bool]:
        """Return the images, and whether they are a part at most."""
        rows, symbols = base.scored_rows(target.num_images, self.num_images), target.symbols
        with threadpool_limits(1):  # threads cost more than they bring, see ppdl.audit.attacks.seriation
            tables = [gray_table(symbols.array, np.array([row]), symbols.num_symbols, target.prior) for row in rows]
        images = np.stack([table[np.asarray(symbols.array[row])] for table, row in zip(tables, rows, strict=True)])
        orders = (
            seen[np.argsort(table[seen])]
            for table, seen in ((t, np.unique(symbols.array[row])) for t, row in zip(tables, rows, strict=True))
        )
        _, counts = np.unique(np.concatenate([order[1:] ^ order[:-1] for order in orders]), return_counts=True)
        most, others = int(counts.max(initial=0)), max(symbols.num_symbols - 2, 1)
        p = (others + 1) * p_value(most, 1, int(counts.sum()) - most, others)  # of that XOR among all that there are
        return base.Rebuilt(rows, images), p <= FALSE_ALARM

    def score(self, guess: tuple[base.Rebuilt, bool], truth: base.Truth) -> base.Finding:
        rebuilt, partial = guess
        return base.Finding(base.score_rebuilt(rebuilt, truth) | {"partial": partial}, rebuilt)
