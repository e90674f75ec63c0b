"""Learn where each pixel was moved to, the same in all images, from images that the attacker holds in the clear."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import MinLen

from ppdl.audit.attacks.keystream import PADS, Decode
from ppdl.audit.attacks.known_images import best_way, ciphertexts, numbers, score_by_count, unread_rows
from ppdl.audit.examination import base
from ppdl.records.typecheck import Count


@dataclass(frozen=True)
class PermutationKnown(base.Attack):
    """Match places of ciphertexts and of images by the values that they have in all known images.

    A pad behind the permutation falls out of differences to the first known image, by XOR or modulo the number of symbols, so these are
    matched too, and then give the pad. Of several places with the same values one is as good as another; a pixel whose values no place has
    gets the mean of the known images. As in `keystream_known`, the half of the known images that was not learned from tells whether
    anything was learned.

    Attributes:
        num_known: numbers of known images to report; those beyond what the attacker holds are left out.
        num_scored: images that are rebuilt; never known ones.

    Source: S. Li, C. Li, G. Chen, N. Bourbakis and K.-T. Lo, A general quantitative cryptanalysis of permutation-only multimedia ciphers
    against plaintext attacks, Signal Process. Image Commun. 23(3), 2008.
    """

    num_known: Annotated[tuple[Count, ...], MinLen(1)]
    num_scored: Count

    name: ClassVar[str] = "permutation_known"
    needs: ClassVar[frozenset[str]] = frozenset({base.SYMBOLS, base.KNOWN})
    knowledge: ClassVar[str] = "the ciphertexts and some of the images in the clear"
    source: ClassVar[str] = "S. Li et al., Signal Process. Image Commun. 23(3), 2008"

    def run(self, target: base.Target, rng: np.random.Generator) -> tuple[dict[int, tuple[base.Rebuilt, dict[str, float]]], dict[str, Any]]:
        """Return rebuilt images and the share of pixels placed by number of known images, and what was found out."""
        known, size = target.known, target.symbols.num_symbols
        rows = unread_rows(target, self.num_scored, least=4)
        protected, unread = (ciphertexts(target, x).reshape(len(x), -1) for x in (known.rows, rows))
        pixels, half, counts = known.images.reshape(len(known.rows), -1).astype(np.int64), len(known.rows) // 2, {}
        for pad, decode in _pads(size).items():
            placed, key = _learned(protected[:half], pixels[:half], decode)
            near, far = (
                _read(x, placed, key, decode, pixels[:half]) for x in (protected[half:], np.roll(protected[half:], len(placed) // 2, 1))
            )
            counts[pad] = int((near == pixels[half:]).sum()), int((far == pixels[half:]).sum())
        pad, metrics, reads = best_way(counts, pixels[half:].size)
        metrics["pad"] = pad
        if not reads:
            return {}, metrics
        share, chance = metrics["held_out_share"], metrics["chance_share"]
        metrics["leak"] = f"known images place the pixels of others ({pad}; {share:.0%} right, by chance {chance:.1%})"
        found, decode = {}, _pads(size)[pad]
        for n in numbers(self.num_known, len(known.rows)):
            placed, key = _learned(protected[:n], pixels[:n], decode)
            images = _read(unread, placed, key, decode, pixels[:n]).clip(0, 255).astype(np.uint8)
            rebuilt = base.Rebuilt(rows, images.reshape(len(rows), target.height, target.width))
            found[n] = rebuilt, {"placed": float((placed >= 0).mean())}
        return found, metrics

    def score(self, guess: tuple[dict[int, tuple[base.Rebuilt, dict[str, float]]], dict[str, Any]], truth: base.Truth) -> base.Finding:
        return score_by_count(*guess, truth)


def _pads(size: int) -> dict[str, Decode | None]:
    pads: dict[str, Decode | None] = {"moved": None, "moved, a byte added": PADS["differences"](size)}
    return pads | {"moved, a byte XORed": PADS["XORs"](size)} if size == 256 else pads


def _learned(c: np.ndarray, p: np.ndarray, decode: Decode | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the ciphertexts' place of each pixel (-1: none has its values), and the pad there: twice (num_places,) int.

    Args:
        c, p: (num_known, num_places) ciphertexts and pixels.
    """
    mine, theirs = (c, p) if decode is None else (decode(c[1:], c[0]), decode(p[1:], p[0]))
    placed = np.full(p.shape[1], -1)
    if len(mine):
        _, names = np.unique(np.concatenate([mine, theirs], axis=1), axis=1, return_inverse=True)
        names = names.ravel()
        left, right = (np.argsort(x, kind="stable") for x in (names[: c.shape[1]], names[c.shape[1] :]))
        own, asked = names[: c.shape[1]][left], names[c.shape[1] :][right]
        turn = np.arange(len(asked)) - np.searchsorted(asked, asked)  # the k-th pixel of these values gets the k-th place of them
        at = np.searchsorted(own, asked) + turn
        fits = (at < len(own)) & (own[np.minimum(at, len(own) - 1)] == asked)
        placed[right[fits]] = left[at[fits]]
    key = np.zeros(p.shape[1], np.int64) if decode is None else decode(c[0][placed], p[0])
    return placed, key


def _read(x: np.ndarray, placed: np.ndarray, key: np.ndarray, decode: Decode | None, p: np.ndarray) -> np.ndarray:
    """Return the pixels (num_images, num_places) of ciphertexts (num_images, num_places)."""
    moved = x[:, placed] if decode is None else decode(x[:, placed], key)
    return np.where(placed >= 0, moved, np.rint(p.mean(0)).astype(np.int64))
