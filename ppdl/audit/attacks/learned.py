"""Train a small network from ciphertexts to images, on images that the attacker holds in the clear: the catch-all."""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from ppdl.audit.attacks.as_is import at_size, gray_rows
from ppdl.audit.attacks.decoder import Decoder
from ppdl.audit.attacks.known_images import unread_rows
from ppdl.audit.examination import base
from ppdl.audit.examination.chance import FALSE_ALARM, p_value_of_matches
from ppdl.errors import AttackDoesNotApply, install_extra
from ppdl.records.typecheck import Count

_VALIDATED = 0.2  # of the images that are learned from


@dataclass(frozen=True)
class Learned(base.Attack):
    """Learn from half of the known images, and put those of the other half in order of their ciphertexts.

    What was rebuilt without their help is matched with the images of the other half, one to one, at the least squared distance. Where the
    ciphertexts say nothing, each matching is as probable as any other, so the probability of as many right ones is known exactly. Ten
    images have to be right, all of them, to be beyond chance.

    Attributes:
        max_epochs: passes over the images at most.
        num_scored: images that are rebuilt; never known ones.

    Source: see `ppdl.audit.attacks.decoder`; P. de Montmort, Essay d'analyse sur les jeux de hazard, 1713, for the matches.
    """

    max_epochs: Count
    num_scored: Count

    name: ClassVar[str] = "learned"
    needs: ClassVar[frozenset[str]] = frozenset({base.PICTURE, base.KNOWN})
    knowledge: ClassVar[str] = "the protected images as pictures, and some of the images in the clear"
    source: ClassVar[str] = "W. Shi et al., CVPR 2016; P. de Montmort 1713"

    def run(self, target: base.Target, rng: np.random.Generator) -> base.Finding:
        """Return how many were matched, and images that were rebuilt where that is beyond chance."""
        if find_spec("keras") is None:
            raise AttackDoesNotApply(f"needs keras, which is not installed: {install_extra('train')}")
        known, rows = target.known, unread_rows(target, self.num_scored, least=4)
        order = rng.permutation(len(known.rows))
        half = len(order) // 2
        if (least := p_value_of_matches(len(order) - half, len(order) - half)) > FALSE_ALARM:
            raise AttackDoesNotApply(
                f"of {len(order)} known images {len(order) - half} can be matched, by chance with probability {least:.1g}"
            )
        shape = target.height, target.width
        seen = [at_size(gray_rows(target.picture, part), *shape)[..., None] / np.float32(255) for part in (known.rows[order], rows)]
        images = known.images[order][..., None] / np.float32(255)
        start = np.broadcast_to(images[:half].mean(0), (1, *shape, 1))
        learned = Decoder(self.max_epochs).fit(
            [seen[0][:half]], [start.repeat(half, 0)], images[:half], half - max(1, math.ceil(_VALIDATED * half)), rng
        )
        held = learned(0, seen[0][half:], start.repeat(len(order) - half, 0))
        right = _matched(held, images[half:])
        p = p_value_of_matches(right, len(held))
        metrics: dict[str, Any] = {"p_value": p, "num_matched": right, "num_held_out": len(held), "leak": None}
        metrics["unseen"] = f"{len(held)} of {len(held)} images matched with what was rebuilt of them (chance 1)"
        if p > FALSE_ALARM:
            return base.Finding(metrics)
        metrics["leak"] = f"a network that learned from {half} known images tells {len(held)} others by their ciphertexts"
        rebuilt = learned(0, seen[1], start.repeat(len(rows), 0))[..., 0]
        return base.Finding(metrics, base.Rebuilt(rows, np.rint(rebuilt * 255).clip(0, 255).astype(np.uint8)))

    def score(self, guess: base.Finding, truth: base.Truth) -> base.Finding:
        return base.with_likeness(guess, truth)


def _matched(rebuilt: np.ndarray, images: np.ndarray) -> int:
    """Return how many of the rebuilt images are matched with the image that they are of."""
    from scipy.optimize import linear_sum_assignment

    left, right = (part.reshape(len(part), -1) - part.mean(0).ravel() for part in (rebuilt, images))
    _, matched = linear_sum_assignment(-left @ right.T)  # the squares are the same in every matching
    return int((matched == np.arange(len(matched))).sum())
