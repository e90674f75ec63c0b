"""What the attackers of an audit are given besides the protected set: images that they know, and earlier X-rays of some patients."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ppdl.audit.examination.base import KnownImages
from ppdl.records.typecheck import Count, Whole

MIN_PATIENTS = 20  # with several images; with fewer, patients are looked up by a film that was taken again
SHIFT_SHARE, GAIN, NOISE = 0.02, (0.85, 1.15), 4.0  # of that film: of the side, of the gray values, in gray levels


@dataclass(frozen=True)
class Settings:
    """Say what all attacks of an audit share, the node `audit` of the configuration.

    Args:
        num_prior: public images that attackers compare with.
        prior_seed: of their drawing.
        num_known: images of the training split that some attackers hold in the clear.
        num_queries: patients that are looked up.
        num_scored: images that an attack rebuilds and that are compared with the originals, where it takes such a number.
        seed: of the attackers' choices.
    """

    num_prior: Count
    prior_seed: Whole
    num_known: Count
    num_queries: Count
    num_scored: Count
    seed: Whole


@dataclass(frozen=True, eq=False)
class Queries:
    """Earlier X-rays: images (num_queries, height, width) uint8, their groups, and the rows they are (-1: taken again, so no row)."""

    images: np.ndarray
    groups: np.ndarray
    rows: np.ndarray


def draw_known(images: Any, rows: np.ndarray, num_known: int, rng: np.random.Generator) -> KnownImages:
    """Choose images that the attacker holds in the clear, out of `rows`."""
    chosen = np.sort(rng.choice(rows, min(num_known, len(rows)), replace=False))
    return KnownImages(chosen, np.asarray(images[chosen]))


def draw_queries(images: Any, groups: np.ndarray, num_queries: int, rng: np.random.Generator) -> Queries:
    """Choose patients to look up, each by one of their images, which is then not searched.

    Where fewer than `MIN_PATIENTS` patients have several images, the query is one image of the set as if taken again: shifted by up to
    2 % of its side, exposed otherwise, with noise. That is easier to find than another day's X-ray.
    """
    order = rng.permutation(len(groups))
    _, first, counts = np.unique(groups[order], return_index=True, return_counts=True)
    several = order[first[counts > 1]]
    if len(several) >= min(MIN_PATIENTS, num_queries):
        rows = np.sort(rng.permutation(several)[:num_queries])
        return Queries(np.asarray(images[rows]), groups[rows], rows)
    rows = np.sort(order[:num_queries])
    again = np.stack([_taken_again(image, rng) for image in np.asarray(images[rows])])
    return Queries(again, groups[rows], np.full(len(rows), -1))


def _taken_again(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    most = max(1, round(SHIFT_SHARE * image.shape[0]))
    padded = np.pad(image, most, mode="edge")
    down, right = rng.integers(0, 2 * most + 1, 2)
    moved = padded[down : down + image.shape[0], right : right + image.shape[1]]
    return np.clip(np.rint(moved * rng.uniform(*GAIN) + rng.normal(0, NOISE, image.shape)), 0, 255).astype(np.uint8)
