"""Look for blocks of bytes that occur again, in an image and in several: what electronic codebook and equal IVs leave."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ppdl.audit.examination import base
from ppdl.audit.examination.chance import FALSE_ALARM, p_value
from ppdl.errors import AttackDoesNotApply
from ppdl.records.typecheck import Count

_RUN = 8  # bytes: of the shortest cipher block in use
_FEWEST_VALUES = 4  # in a run that counts; flat parts of a picture repeat without any cipher
_NUM_NULLS = 9  # with none in them, seven runs are enough
_ALIGNED = 0.8  # of what repeats, to name the size of blocks


@dataclass(frozen=True)
class Repeats(base.Attack):
    """Count the different runs of eight bytes along the rows that occur in more than one place, at any alignment.

    In n uniform bytes there are n^2 / 2^65 of them. Values of pictures are not uniform, so what is allowed for by chance is the same count
    after the pixels of each image were moved to random places, nine times. The map of repeats is a picture: black where a run occurs
    again. Images that begin with the same 16 bytes are counted too.

    Attributes:
        num_scored: images whose map is drawn.

    Source: NIST SP 800-38A, 2001: section 6.1, equal blocks under ECB; appendix C, IVs of CBC.

    Cost: ten sorts of all runs, about 1 s for 100 images of 64 px.
    """

    num_scored: Count

    name: ClassVar[str] = "repeats"
    needs: ClassVar[frozenset[str]] = frozenset({base.SYMBOLS})
    knowledge: ClassVar[str] = "the ciphertexts alone"
    source: ClassVar[str] = "NIST SP 800-38A, 2001"

    def run(self, target: base.Target, rng: np.random.Generator) -> base.Finding:
        """Return what was found, with the map where runs repeat more than by chance."""
        if target.symbols.num_symbols != 256:
            raise AttackDoesNotApply(f"the images are no bytes: they have {target.symbols.num_symbols} different values")
        flat = np.asarray(target.symbols.array).astype(np.uint8).reshape(target.num_images, -1)
        again, hits = _again(flat)
        far_hits = sum(_again(rng.permuted(flat, axis=1))[1] for _ in range(_NUM_NULLS))
        p = p_value(hits, 1, far_hits, _NUM_NULLS)
        covered = np.zeros(flat.shape, bool)
        for k in range(_RUN):
            covered[:, k : k + again.shape[1]] |= again
        _, begins = np.unique(flat[:, :16], axis=0, return_counts=True)
        metrics: dict[str, Any] = {"p_value": p, "num_repeated": hits, "num_repeated_null": far_hits / _NUM_NULLS}
        metrics |= {"repeated_share": float(covered.mean()), "begin_alike": float(begins[begins > 1].sum() / len(flat)), "leak": None}
        metrics["unseen"] = f"{_least(far_hits)} different blocks that occur again (by chance {far_hits / _NUM_NULLS:.1f})"
        if p > FALSE_ALARM:
            return base.Finding(metrics)
        metrics["block_bytes"] = _block_bytes(again, covered)
        size = "" if metrics["block_bytes"] is None else f" of {metrics['block_bytes']} bytes"
        alike = f"; {metrics['begin_alike']:.0%} of the images begin like another" if metrics["begin_alike"] else ""
        metrics["leak"] = f"blocks{size} occur again, over {metrics['repeated_share']:.1%} of the pixels{alike}"
        rows = base.scored_rows(target.num_images, self.num_scored)
        shape = (len(rows), target.height, target.width)
        return base.Finding(metrics, base.Rebuilt(rows, np.where(covered[rows], 0, 255).astype(np.uint8).reshape(shape)))

    def score(self, guess: base.Finding, truth: base.Truth) -> base.Finding:
        """Return what was found: a map is no image, so its likeness to one would mean nothing."""
        return guess


def _again(flat: np.ndarray) -> tuple[np.ndarray, int]:
    """Return where a run starts that occurs more than once, (num_images, num_pixels - 7) bool, and how many different ones there are."""
    runs = np.lib.stride_tricks.sliding_window_view(flat, _RUN, axis=1)
    ordered = np.sort(runs, axis=2)
    various = (ordered[..., 1:] != ordered[..., :-1]).sum(2) + 1 >= _FEWEST_VALUES
    numbers = np.ascontiguousarray(runs).view(np.uint64)[..., 0]
    _, first, counts = np.unique(numbers[various], return_inverse=True, return_counts=True)
    again = np.zeros(numbers.shape, bool)
    again[various] = counts[first] > 1
    return again, int((counts > 1).sum())


def _block_bytes(again: np.ndarray, covered: np.ndarray) -> int | None:
    """Return the size of blocks, 16 or 8, if nearly all that repeats lies in repeated blocks at multiples of it."""
    aligned = again[:, ::_RUN]
    if aligned.sum() * _RUN < _ALIGNED * covered.sum():
        return None
    upper, lower = aligned[:, 0::2], aligned[:, 1::2]
    upper = upper[:, : lower.shape[1]]
    both = (upper & lower).sum() / max(int((upper | lower).sum()), 1)
    return 2 * _RUN if both >= _ALIGNED else _RUN


def _least(far_hits: int) -> int:
    return next(hits for hits in range(1, 1 << 40) if p_value(hits, 1, far_hits, _NUM_NULLS) <= FALSE_ALARM)
