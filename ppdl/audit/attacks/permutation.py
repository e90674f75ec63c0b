"""Put pixels back that were moved to the same places in all images, from the ciphertexts alone: by how places vary over the images."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ppdl.audit.attacks.as_is import at_size, gray_rows, rows_with
from ppdl.audit.attacks.own_histogram import OwnHistogram
from ppdl.audit.examination import base
from ppdl.audit.examination.chance import FALSE_ALARM
from ppdl.errors import AttackDoesNotApply
from ppdl.records.typecheck import Count

_FEWEST = 8  # images: four in each half
_MOST_PLACES = 1 << 14  # each is compared with each
_BLOCK = 1024  # places that are compared at a time
_NUM_LANDMARKS, _ROUNDS = 512, 6
_MEANS_WEIGHT = 0.3  # of a place's own values against its covariances, both relative to their variance over places
_LEAST_USED = 1 / 8  # of the places, to call it an order: places that vary together without being moved pixels serve many times each
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Permutation(base.Attack):
    """Match places of the ciphertexts with places of public images, by their values and by which of them vary together.

    Test: is the place that varies most like this one the same in both halves of the images? Where values are independent, as many
    pairs agree as a Poisson law says. If more do, and images keep histograms of their own, so that no pad is behind it, each place is
    given the ciphertexts' place of the most similar quantiles over the images, and then, in turns, that whose correlations with
    `_NUM_LANDMARKS` others, which stand as found so far, are most alike.

    Attributes:
        num_images: images that are compared.
        num_scored: images that are rebuilt.

    Source: S. Umeyama, An eigendecomposition approach to weighted graph matching problems, IEEE TPAMI 10(5), 1988, for what is matched;
    S. Li et al., Signal Process. Image Commun. 23(3), 2008: permutation alone does not encrypt.

    Cost: grows with the square of the number of pixels; some seconds for 64 x 64, and not attempted above 128 x 128.
    """

    num_images: Count
    num_scored: Count

    name: ClassVar[str] = "permutation"
    needs: ClassVar[frozenset[str]] = frozenset({base.PICTURE})
    wants: ClassVar[frozenset[str]] = frozenset({base.PRIOR})
    knowledge: ClassVar[str] = "the protected images as pictures, and public images"
    source: ClassVar[str] = "S. Umeyama, IEEE TPAMI 10(5), 1988; S. Li et al. 2008"

    def run(self, target: base.Target, rng: np.random.Generator) -> base.Finding:
        """Return what was found, and images with their places as matched where places vary together."""
        from scipy.stats import poisson  # a second to import, and every stage checks the attacks

        height, width = target.picture.shape[1:3]
        if height * width > _MOST_PLACES:
            raise AttackDoesNotApply(f"{height} x {width} places are too many to compare")
        if target.num_images < _FEWEST:
            raise AttackDoesNotApply(f"{target.num_images} images are too few to compare places over: {_FEWEST} are needed")
        scored = base.scored_rows(target.num_images, self.num_scored)
        rows = rng.permutation(rows_with(scored, target.num_images, self.num_images, rng))
        values = gray_rows(target.picture, rows).reshape(len(rows), -1).astype(np.float32)
        one, other = (_nearest_pairs(values[k::2]) for k in (0, 1))
        expected = len(one) * len(other) / max(values.shape[1] * (values.shape[1] - 1) / 2, 1)
        hits, total = len(np.intersect1d(one, other)), max(len(one), 1)
        p = float(poisson.sf(hits - 1, expected))
        seen_from = (int(poisson.isf(FALSE_ALARM, expected)) + 1) / total
        metrics: dict[str, Any] = {"p_value": p, "pairs_again": hits / total, "chance_pairs_again": expected / total, "leak": None}
        metrics["unseen"] = f"{seen_from:.2%} of the places with the same nearest one in both halves (chance {expected / total:.2%})"
        if p > FALSE_ALARM:
            return base.Finding(metrics)
        metrics["leak"] = f"places vary together over the images ({hits / total:.0%} have the same nearest one in both halves)"
        shown = replace(target, symbols=base.Symbols(gray_rows(target.picture, np.arange(target.num_images)), 256, None))
        kept, _ = OwnHistogram().run(shown, rng)
        if target.prior is None or kept["leak"] is None:
            return base.Finding(metrics)
        prior = at_size(target.prior, height, width).reshape(len(target.prior), -1).astype(np.float32)
        places = _matched(values, prior, rng)
        metrics["places_used"] = len(np.unique(places)) / len(places)
        metrics["partial"] = metrics["places_used"] < _LEAST_USED
        moved = gray_rows(target.picture, scored).reshape(len(scored), -1)[:, places]
        images = at_size(moved.reshape(len(scored), height, width), target.height, target.width)
        return base.Finding(metrics, base.Rebuilt(scored, images))

    def score(self, guess: base.Finding, truth: base.Truth) -> base.Finding:
        return base.with_likeness(guess, truth)


def _standardised(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(0)
    return centred / np.maximum(np.linalg.norm(centred, axis=0), np.finfo(np.float32).tiny)


def _nearest_pairs(values: np.ndarray) -> np.ndarray:
    """Return the unordered pairs of a place that varies at all and the place most correlated with it, as sorted numbers."""
    varied = np.flatnonzero(np.ptp(values, axis=0) > 0)
    columns, nearest = _standardised(values[:, varied]), []
    if len(varied) < 2:
        return np.empty(0, int)
    for start in range(0, len(varied), _BLOCK):
        alike = columns[:, start : start + _BLOCK].T @ columns
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -np.inf
        nearest.append(varied[alike.argmax(1)])
    ends = np.sort(np.stack([varied, np.concatenate(nearest)]), axis=0)
    return np.unique(ends[0] * values.shape[1] + ends[1])


def _matched(values: np.ndarray, prior: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return for each place of public images the ciphertexts' place that behaves like it, (num_places,) int; one may serve several.

    Args:
        values: (num_images, num_places) of ciphertexts.
        prior: (num_prior, num_places).
    """
    mine, theirs = (np.quantile(x, _QUANTILES, axis=0).T.astype(np.float32) for x in (values, prior))
    own = _MEANS_WEIGHT * _squares(theirs, mine)
    place = own.argmin(1)
    columns, public = _standardised(values), _standardised(prior)
    for _ in range(_ROUNDS):
        marks = rng.choice(len(place), min(_NUM_LANDMARKS, len(place)), replace=False)
        place = (_squares(public.T @ public[:, marks], columns.T @ columns[:, place[marks]]) + own).argmin(1)
    return place


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the squared distances of rows to rows, relative to the variance of the first over rows."""
    distances = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return distances / max(float(one.var(0).sum()), np.finfo(np.float32).tiny)
