"""The yardstick of every rebuilt image: what is reached without looking at the protected images at all."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ppdl.audit.examination.base import PRIOR, Attack, Rebuilt, Target, scored_rows
from ppdl.records.typecheck import Count


@dataclass(frozen=True)
class Blind(Attack):
    """Answer with the mean of the public images, whatever was protected. An attack has found nothing unless it does better.

    Args:
        num_scored: images that are scored.
    """

    num_scored: Count

    name: ClassVar[str] = "blind"
    needs: ClassVar[frozenset[str]] = frozenset({PRIOR})
    knowledge: ClassVar[str] = "nothing of this set: public images alone"
    source: ClassVar[str] = ""

    def run(self, target: Target, rng: np.random.Generator) -> Rebuilt:
        """Return the same image for every row."""
        rows = scored_rows(target.num_images, self.num_scored)
        mean = np.rint(target.prior.mean(0)).astype(np.uint8)
        return Rebuilt(rows, np.repeat(mean[None], len(rows), axis=0))
