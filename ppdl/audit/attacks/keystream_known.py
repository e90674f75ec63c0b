"""Learn, place by place, how pixels become ciphertexts, from images that the attacker holds in the clear."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import MinLen

from ppdl.audit.attacks.keystream import PADS, unchained
from ppdl.audit.attacks.known_images import best_way, ciphertexts, numbers, score_by_count, unread_rows
from ppdl.audit.examination import base
from ppdl.records.typecheck import Count

Learn = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # known ciphertexts, known pixels, ciphertexts -> pixels

_UNSEEN = 128


@dataclass(frozen=True)
class KeystreamKnown(base.Attack):
    """Read off known images what each place does to a pixel, and undo it in the others.

    Four ways are tried, each on ciphertexts as they are and with the pixel before taken off: a byte that is XORed; one that is added; the
    two of Chen, Mao and Chui, k ^ ((p + k) mod 256); and a table of each pair of bits, which DNA coding is. The one that reads the
    second half of the known images best from the first half is used. That it reads them better than from ciphertexts of places
    far away is the test.

    Attributes:
        num_known: numbers of known images to report; those beyond what the attacker holds are left out.
        num_scored: images that are rebuilt; never known ones.

    Source: A. Kerckhoffs 1883; C. Li et al., On the security defects of an image encryption scheme, Image and Vision Computing 27(9), 2009;
    K. Wang et al., Physics Letters A 343(6), 2005; H. Hermassi et al., Multimedia Tools and Applications 72(3), 2014.
    """

    num_known: Annotated[tuple[Count, ...], MinLen(1)]
    num_scored: Count

    name: ClassVar[str] = "keystream_known"
    needs: ClassVar[frozenset[str]] = frozenset({base.SYMBOLS, base.KNOWN})
    knowledge: ClassVar[str] = "the ciphertexts and some of the images in the clear"
    source: ClassVar[str] = "A. Kerckhoffs 1883; C. Li et al. 2009; K. Wang et al. 2005; H. Hermassi et al. 2014"

    def run(self, target: base.Target, rng: np.random.Generator) -> tuple[dict[int, tuple[base.Rebuilt, dict[str, float]]], dict[str, Any]]:
        """Return rebuilt images by number of known ones, and what was found out."""
        known, size = target.known, target.symbols.num_symbols
        rows = unread_rows(target, self.num_scored, least=2)
        protected, half = unchained(ciphertexts(target, known.rows), size), len(known.rows) // 2
        pixels = known.images.astype(np.int64)
        counts, far = {}, (target.height // 2, target.width // 2)
        for way, found in protected.items():
            for name, learn in _learners(size).items():
                read, wrong = (learn(found[:half], pixels[:half], x) for x in (found[half:], np.roll(found[half:], far, (1, 2))))
                counts[way, name] = int((read == pixels[half:]).sum()), int((wrong == pixels[half:]).sum())
        (way, name), metrics, reads = best_way(counts, pixels[half:].size)
        metrics["way"] = f"{name} {way}"
        if not reads:
            return {}, metrics
        share, chance = metrics["held_out_share"], metrics["chance_share"]
        metrics["leak"] = f"known images read {share:.0%} of the pixels of others ({name} {way}; by chance {chance:.1%})"
        unread, learn = unchained(ciphertexts(target, rows), size)[way], _learners(size)[name]
        return {
            n: (base.Rebuilt(rows, learn(protected[way][:n], pixels[:n], unread).clip(0, 255).astype(np.uint8)), {})
            for n in numbers(self.num_known, len(known.rows))
        }, metrics

    def score(self, guess: tuple[dict[int, tuple[base.Rebuilt, dict[str, float]]], dict[str, Any]], truth: base.Truth) -> base.Finding:
        return score_by_count(*guess, truth)


def _learners(size: int) -> dict[str, Learn]:
    learners: dict[str, Learn] = {"a byte added": lambda c, p, x: _most_common(PADS["differences"](size), c, p, x, size)}
    if size == 256:
        learners |= {"a byte XORed": lambda c, p, x: _most_common(PADS["XORs"](size), c, p, x, size)}
        learners |= {"k ^ (p + k)": _mixed, "tables of bit pairs": _pairs}
    return learners


def _most_common(decode: Callable[..., np.ndarray], c: np.ndarray, p: np.ndarray, x: np.ndarray, size: int) -> np.ndarray:
    """Undo a pad: the key that most known images agree on at each place, which one image gives where there is one."""
    keys = decode(c, p)  # both pads are their own inverse in the key
    votes = np.stack([(keys == key).sum(0) for key in keys])  # (num_known, height, width): how many agree with each
    key = np.take_along_axis(keys, votes.argmax(0)[None], 0)[0]
    return decode(x, key)


def _mixed(c: np.ndarray, p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Undo c = k ^ ((p + k) mod 256) by the key that most known images agree on."""
    best, most = np.zeros(c.shape[1:], np.int64), np.full(c.shape[1:], -1)
    for key in range(256):
        agree = ((c ^ key) == (p + key) % 256).sum(0)
        better = agree > most
        best[better], most[better] = key, agree[better]
    return ((x ^ best) - best) % 256


def _pairs(c: np.ndarray, p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Undo a table for each pair of bits at each place, by what it stood for most often; a pair that was never seen is middle gray's."""
    result = np.zeros(x.shape, np.int64)
    for shift in (6, 4, 2, 0):
        one, other, asked = c >> shift & 3, p >> shift & 3, x >> shift & 3
        votes = np.stack([[((one == a) & (other == b)).sum(0) for b in range(4)] for a in range(4)])  # (4, 4, height, width)
        table = np.where(votes.sum(1) > 0, votes.argmax(1), _UNSEEN >> shift & 3)
        result |= np.take_along_axis(table, asked, 0) << shift
    return result
