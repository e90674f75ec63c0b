"""What attacks with known images have in common: which images are read, how it is tested that they can be, and how that is scored."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ppdl.audit.examination import base
from ppdl.audit.examination.chance import FALSE_ALARM, p_value, smallest_rate
from ppdl.errors import AttackDoesNotApply

Way = TypeVar("Way", bound=Hashable)

_WORDS = {2: "two", 4: "four"}


def unread_rows(target: base.Target, num_scored: int, *, least: int) -> np.ndarray:
    """Return the rows of images to read, none of them known: (num_rows,) int.

    Raises:
        AttackDoesNotApply: fewer than `least` images are known, or all.
    """
    known = target.known.rows
    if len(known) < least or len(known) == target.num_images:
        raise AttackDoesNotApply(f"{len(known)} of {target.num_images} images are known: {_WORDS[least]} must be, and one must not")
    unknown = np.setdiff1d(np.arange(target.num_images), known)
    return unknown[base.scored_rows(len(unknown), num_scored)]


def ciphertexts(target: base.Target, rows: np.ndarray) -> np.ndarray:
    """Return the ciphertexts of some rows, in their order: (num_rows, height, width) int64."""
    return np.stack([np.asarray(target.symbols.array[row]) for row in rows]).astype(np.int64)


def numbers(wanted: Sequence[int], num_known: int) -> list[int]:
    """Return the numbers of known images to report: those that the attacker holds, or all that he does."""
    return [count for count in sorted(wanted) if count <= num_known] or [num_known]


def best_way(counts: Mapping[Way, tuple[int, int]], trials: int) -> tuple[Way, dict[str, Any], bool]:
    """Return the way that reads held-out pixels best, its figures, and whether it reads more than chance allows.

    Args:
        counts: by way, pixels that were read right from their ciphertexts, and from ciphertexts of places far away.
        trials: pixels.
    """
    way, (hits, chance) = max(counts.items(), key=lambda item: item[1][0] - item[1][1])
    p = p_value(hits, trials, chance, trials)
    figures: dict[str, Any] = {"p_value": p, "held_out_share": hits / trials, "chance_share": chance / trials, "leak": None}
    figures["unseen"] = f"{smallest_rate(trials, chance / trials, len(counts)):.2%} of the pixels (chance {chance / trials:.2%})"
    return way, figures, p * len(counts) <= FALSE_ALARM


def score_by_count(
    found: Mapping[int, tuple[base.Rebuilt, Mapping[str, float]]], metrics: Mapping[str, Any], truth: base.Truth
) -> base.Finding:
    """Report psnr, ssim and the share of pixels that are right by number of known images; the headline is the largest number.

    Args:
        found: by number of known images, what was rebuilt, and further figures of it.
    """
    if not found:
        return base.Finding(dict(metrics))
    scores = {
        str(n): base.score_rebuilt(rebuilt, truth) | dict(further) | {"share": float((rebuilt.images == truth.images[rebuilt.rows]).mean())}
        for n, (rebuilt, further) in found.items()
    }
    largest = max(found)
    return base.Finding({**metrics, **scores[str(largest)], "headline_known": largest, "by_count": scores}, found[largest][0])
