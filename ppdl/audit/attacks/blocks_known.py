"""Learn linear maps of blocks from images that the attacker holds in the clear: Hill ciphers, shuffled bits, DCT signs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import MinLen

from ppdl.audit.attacks.as_is import gray_rows
from ppdl.audit.attacks.known_images import numbers, score_by_count, unread_rows
from ppdl.audit.examination import base
from ppdl.audit.examination.blocks import DCT_PX, coefficients, joined, pixels, tiled
from ppdl.audit.examination.chance import FALSE_ALARM, p_value, smallest_rate
from ppdl.errors import AttackDoesNotApply
from ppdl.records.typecheck import Count

_MOST_BLOCKS = 4096  # that a map is solved from

Learn = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # known pictures, known images, pictures -> images


@dataclass(frozen=True)
class BlocksKnown(base.Attack):
    """Solve for the map from blocks of ciphertexts to blocks of pixels, and read the other images by it.

    Three kinds are tried: the pixels of a block, multiplied by one matrix modulo 256 for all blocks, plus a constant; its bits, by one
    matrix modulo 2, which any shuffle and inversion of bits is; and signs of 8 x 8 DCT coefficients, of each place by itself. Each is
    learned from one half of the known images. Of the other half, every second is read from its own ciphertexts and from those of the next
    image: which of the two is nearer is a fair coin for each block where images are encrypted independently, so a sign test tells.

    Attributes:
        num_known: numbers of known images to report; those beyond what the attacker holds are left out.
        num_scored: images that are rebuilt; never known ones.

    Source: D. Stinson, Cryptography: theory and practice, 1995, section 1.2.5, for Hill's cipher; A. Chang and B. Case, Attacks on image
    encryption schemes for privacy-preserving deep neural networks, arXiv:2004.13263, 2020, for bits; C. Shi and B. Bhargava, A fast MPEG
    video encryption algorithm, ACM Multimedia 1998, for signs.

    Cost: some seconds for 20 known images of 96 px.
    """

    num_known: Annotated[tuple[Count, ...], MinLen(1)]
    num_scored: Count

    name: ClassVar[str] = "blocks_known"
    needs: ClassVar[frozenset[str]] = frozenset({base.PICTURE, base.KNOWN})
    knowledge: ClassVar[str] = "the protected images as pictures and some of the images in the clear"
    source: ClassVar[str] = "D. Stinson 1995; A. Chang and B. Case 2020; C. Shi and B. Bhargava 1998"

    def run(self, target: base.Target, rng: np.random.Generator) -> tuple[dict[int, tuple[base.Rebuilt, dict[str, float]]], dict[str, Any]]:
        """Return rebuilt images by number of known ones, and what was found out."""
        known, rows = target.known, unread_rows(target, self.num_scored, least=4)
        if target.picture.shape[1:3] != known.images.shape[1:] or min(known.images.shape[1:]) < DCT_PX:
            raise AttackDoesNotApply("the picture has another size than the images, or is smaller than 8 x 8 px")
        protected, half = np.concatenate([gray_rows(target.picture, np.array([row])) for row in known.rows]), len(known.rows) // 2
        learned, held, one, other = (
            slice(half),
            known.images[half:][: half // 2 * 2 : 2],
            *(protected[half:][k : half // 2 * 2 : 2] for k in (0, 1)),
        )
        signs = {}
        for way, (shape, learn) in _WAYS.items():
            near, far = (np.abs(tiled(learn(protected[learned], known.images[learned], x) - held, shape)).sum((3, 4)) for x in (one, other))
            signs[way] = int((near < far).sum()), int((near > far).sum()), near.size
        way, (wins, losses, trials) = max(signs.items(), key=lambda item: (item[1][0] - item[1][1]) / item[1][2])
        p = min(1.0, len(signs) * p_value(wins, 1, losses, 1))
        metrics: dict[str, Any] = {"p_value": p, "way": way, "nearer": wins / trials, "farther": losses / trials, "leak": None}
        metrics["unseen"] = (
            f"{smallest_rate(trials, 0.5, len(signs)):.0%} of the blocks nearer than from another's ciphertexts (chance 50%)"
        )
        if p > FALSE_ALARM:
            return {}, metrics
        metrics["leak"] = f"known images read blocks of others ({way}; {wins / trials:.0%} nearer than from another's ciphertexts)"
        learn, unread = _WAYS[way][1], gray_rows(target.picture, rows)
        return {
            n: (base.Rebuilt(rows, learn(protected[:n], known.images[:n], unread).clip(0, 255).astype(np.uint8)), {})
            for n in numbers(self.num_known, len(known.rows))
        }, metrics

    def score(self, guess: tuple[dict[int, tuple[base.Rebuilt, dict[str, float]]], dict[str, Any]], truth: base.Truth) -> base.Finding:
        return score_by_count(*guess, truth)


def _linear(c: np.ndarray, p: np.ndarray, x: np.ndarray, *, shape: tuple[int, int], modulus: int) -> np.ndarray:
    """Read x by one affine map of blocks modulo 256 (of pixels) or 2 (of bits): (num_images, height, width) int64."""
    known, images, asked = (_rows(each, shape, modulus) for each in (c, p, x))
    known, asked = (np.concatenate([each, np.ones((len(each), 1), np.int64)], axis=1) for each in (known, asked))
    some = np.linspace(0, len(known) - 1, min(len(known), _MOST_BLOCKS)).astype(int)
    read = asked @ solved(known[some], images[some], modulus) % modulus
    if modulus == 2:
        read = np.packbits(read.astype(np.uint8), axis=1).astype(np.int64)
    rows, columns = (length // side for length, side in zip(x.shape[1:], shape, strict=True))
    return joined(read.reshape(len(x), rows, columns, *shape), _mean(p))


def _rows(images: np.ndarray, shape: tuple[int, int], modulus: int) -> np.ndarray:
    """Return (num_blocks, num_pixels or num_bits) int64."""
    blocks = tiled(images, shape).reshape(-1, shape[0] * shape[1])
    return (np.unpackbits(blocks, axis=1) if modulus == 2 else blocks).astype(np.int64)


def solved(left: np.ndarray, right: np.ndarray, modulus: int) -> np.ndarray:
    """Solve left @ X = right modulo a power of two, by elimination with odd pivots: (num_unknowns, num_columns) int64.

    Unknowns without an odd pivot are 0. Equations beyond the pivots' are not looked at, so a solution is no proof that there is one.

    Args:
        left: (num_equations, num_unknowns) int64.
        right: (num_equations, num_columns) int64.
    """
    table, unknowns, done = np.concatenate([left, right], axis=1), left.shape[1], 0
    pivots = []
    for column in range(unknowns):
        odd = np.flatnonzero(table[done:, column] & 1)
        if not len(odd):
            continue
        at = done + odd[0]
        table[[done, at]] = table[[at, done]]
        table[done] = table[done] * pow(int(table[done, column]), -1, modulus) % modulus
        others = np.flatnonzero(table[:, column])
        others = others[others != done]
        table[others] = (table[others] - table[others, column, None] * table[done]) % modulus
        pivots.append(column)
        done += 1
        if done == len(table):
            break
    found = np.zeros((unknowns, right.shape[1]), np.int64)
    found[pivots] = table[: len(pivots), unknowns:]
    return found


def _signs(c: np.ndarray, p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Read x by the sign of each DCT coefficient at each place, and one scale for all: (num_images, height, width) int64."""
    known, images, asked = (coefficients(each.astype(float)) for each in (c, p, x))
    mine, theirs = known - known.mean(0), images - images.mean(0)
    scale = np.sqrt((theirs**2).sum() / max((mine**2).sum(), np.finfo(float).tiny))
    read = images.mean(0) + scale * np.sign((mine * theirs).sum(0)) * (asked - known.mean(0))
    return joined(np.rint(pixels(read)).astype(np.int64), _mean(p))


def _mean(images: np.ndarray) -> np.ndarray:
    return np.rint(images.mean(0, keepdims=True)).astype(np.int64)


_WAYS: dict[str, tuple[tuple[int, int], Learn]] = {
    **{
        f"{down} x {right} pixels times a matrix modulo 256": ((down, right), partial(_linear, shape=(down, right), modulus=256))
        for down, right in ((1, 2), (1, 3), (1, 4), (2, 2), (1, 8))
    },
    **{
        f"bits of {side} x {side} pixels times a matrix modulo 2": ((side, side), partial(_linear, shape=(side, side), modulus=2))
        for side in (2, 4)
    },
    "signs of 8 x 8 DCT coefficients": ((DCT_PX, DCT_PX), _signs),
}
