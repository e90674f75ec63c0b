"""Find one keystream that served for several images, and take it off, from the ciphertexts alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from ppdl.audit.attacks.as_is import at_size, rows_with
from ppdl.audit.examination import base
from ppdl.audit.examination.chance import FALSE_ALARM, p_value, smallest_rate
from ppdl.errors import AttackDoesNotApply
from ppdl.records.typecheck import Count

Decode = Callable[[np.ndarray, np.ndarray | int], np.ndarray]  # ciphertexts and keys to pixels; its own inverse in the key for known pixels

AS_IT_IS = "of ciphertexts"

_SWEEPS = 5
_FAR = ((0.5, 0.5), (0.3, 0.6), (0.6, 0.3), (0.4, 0.1))  # of the sides: where nothing has to do with the pixel here
_LARGEST_STEP = 48  # gray levels between neighbours; more is an edge and costs no more
_PRIOR_WEIGHT = 0.02  # of the public images against smoothness, in gray levels a unit of log-likelihood and image


class _Test(NamedTuple):
    """Hold a count of coincidences, and one at far places."""

    way: str
    name: str
    hits: int
    trials: int
    far_hits: int
    far_trials: int

    @property
    def p_value(self) -> float:
        return p_value(self.hits, self.trials, self.far_hits, self.far_trials)

    @property
    def rate(self) -> float:
        return self.hits / self.trials

    @property
    def chance(self) -> float:
        return self.far_hits / self.far_trials


@dataclass(frozen=True)
class Keystream(base.Attack):
    """Test whether a pixel becomes a ciphertext in the same way in all images, and undo the way if it is a pad.

    Three counts on disjoint pairs of images tell: equal ciphertexts at the same place (Friedman's index of coincidence), and equal XORs, or
    equal differences, of the two at neighbouring places, since the pad falls out and images are smooth. The first is
    tried with the pixel before taken off too, as chaining adds it. Where a difference tells, the pad is found place by place:
    first the likeliest by the public images, then that which makes all images smooth.

    Attributes:
        num_images: images that the pad is found from.
        num_scored: images that are rebuilt.

    Source: W. Friedman, The index of coincidence and its applications in cryptography, Riverbank 22, 1922; J. Mason, K. Watkins,
    J. Eisner and A. Stubblefield, A natural language approach to automated cryptanalysis of two-time pads, CCS 2006.

    Cost: some seconds for 40 images of 64 px.
    """

    num_images: Count
    num_scored: Count

    name: ClassVar[str] = "keystream"
    needs: ClassVar[frozenset[str]] = frozenset({base.SYMBOLS})
    wants: ClassVar[frozenset[str]] = frozenset({base.PRIOR})
    knowledge: ClassVar[str] = "the ciphertexts and public images of other people"
    source: ClassVar[str] = "W. Friedman, Riverbank 22, 1922; J. Mason et al., two-time pads, CCS 2006"

    def run(self, target: base.Target, rng: np.random.Generator) -> base.Finding:
        """Return what was found, with the rebuilt images where a pad was."""
        if target.num_images < 2:
            raise AttackDoesNotApply("there is one image only, and reuse takes two")
        scored = base.scored_rows(target.num_images, self.num_scored)
        rows = rows_with(scored, target.num_images, self.num_images, rng)
        symbols, size = np.asarray(target.symbols.array[rows]).astype(np.int64), target.symbols.num_symbols
        tests = [found for way, values in unchained(symbols, size).items() for found in _tests(values, size, way)]
        telling = [found for found in tests if found.p_value * len(tests) <= FALSE_ALARM]
        # Of all that tell, the simplest that undoes most.
        best = (
            max(telling, key=lambda row: (row.name in PADS, row.way == AS_IT_IS, row.rate))
            if telling
            else min(tests, key=lambda row: row.p_value)
        )
        metrics: dict[str, Any] = {"p_value": best.p_value, "coincidences": best.rate, "chance_coincidences": best.chance, "leak": None}
        metrics |= {"way": best.way, "test": best.name}
        metrics["unseen"] = f"coincidences of {smallest_rate(best.trials, best.chance, len(tests)):.2%} (chance {best.chance:.2%})"
        if not telling:
            return base.Finding(metrics)
        way = f"{best.name} {best.way} coincide in {best.rate:.1%}, by chance in {best.chance:.1%}"
        metrics["leak"] = f"what stands at a place comes of its pixel in the same way in all images ({way})"
        if best.name not in PADS or target.prior is None:
            return base.Finding(metrics)
        decode = PADS[best.name](size)
        pad = _pad(symbols, size, decode, at_size(target.prior, target.height, target.width))
        pixels = decode(np.asarray(target.symbols.array[scored]).astype(np.int64), pad)
        metrics["partial"] = best.name == "differences"  # what all images have in common is the public images' then, whatever the pad
        return base.Finding(metrics, base.Rebuilt(scored, np.minimum(pixels, 255).astype(np.uint8)))

    def score(self, guess: base.Finding, truth: base.Truth) -> base.Finding:
        return base.with_likeness(guess, truth)


def _xor(size: int) -> Decode:
    return lambda values, key: values ^ key


def _minus(size: int) -> Decode:
    return lambda values, key: (values - key) % size


PADS: dict[str, Callable[[int], Decode]] = {"XORs": _xor, "differences": _minus}


def unchained(symbols: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Return (num_images, height, width) int64 as they are, and with the pixel before taken off, in the two ways of chaining."""
    flat = symbols.reshape(len(symbols), -1)
    before = np.concatenate([np.zeros((len(flat), 1), np.int64), flat[:, :-1]], axis=1)
    ways = {AS_IT_IS: flat, "after XOR with the pixel before": flat ^ before, "after minus the pixel before": (flat - before) % size}
    return {way: found.reshape(symbols.shape) for way, found in ways.items() if _fits(way, size)}


def _fits(name: str, size: int) -> bool:
    """Return whether an operation stays among the symbols: XOR does for powers of two alone."""
    return "XOR" not in name or size & (size - 1) == 0


def _tests(symbols: np.ndarray, size: int, way: str) -> Iterator[_Test]:
    """Yield the counts.

    Where the pixel before was taken off, neighbours have a pixel in common, so that theirs is no count of independent ones.
    """
    pairs = len(symbols) // 2
    one, other = symbols[0 : 2 * pairs : 2], symbols[1 : 2 * pairs : 2]
    far = [(round(down * symbols.shape[1]), round(right * symbols.shape[2])) for down, right in _FAR]
    hits = [int((one == np.roll(other, to, (1, 2))).sum()) for to in far]
    yield _Test(way, "pixels", int((one == other).sum()), one.size, sum(hits), len(far) * one.size)
    for name, pad in PADS.items():
        if way == AS_IT_IS and _fits(name, size):
            rest = pad(size)(one, other)
            near = [rest[:, 1:] == rest[:, :-1], rest[:, :, 1:] == rest[:, :, :-1]]
            hits = [int((rest == np.roll(rest, to, (1, 2))).sum()) for to in far]
            yield _Test(way, name, sum(int(x.sum()) for x in near), sum(x.size for x in near), sum(hits), len(far) * rest.size)


def _pad(symbols: np.ndarray, size: int, decode: Decode, prior: np.ndarray) -> np.ndarray:
    """Find the pad (height, width) int64.

    Args:
        symbols: (num_images, height, width) int64.
        prior: (num_prior, height, width) uint8.
    """
    shown = np.zeros((*prior.shape[1:], max(size, 256)))
    y, x = np.indices(prior.shape[1:])
    for image in prior:
        shown[y, x, image] += 1
    cost = -np.log(gaussian_filter(shown, (1.5, 1.5, 4.0)) + 1e-3)[..., :size]
    own = np.empty((size, *prior.shape[1:]))  # of each key, by the public images
    for key in range(size):
        own[key] = cost[y, x, decode(symbols, key)].sum(0)
    pad = own.argmin(0)
    for sweep in range(2 * _SWEEPS):
        images = decode(symbols, pad).astype(np.float32)
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="reflect")
        near = (padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]) / 4
        best, least = pad.copy(), np.full(pad.shape, np.inf)
        for key in range(size):
            rough = np.minimum(np.abs(decode(symbols, key) - near), _LARGEST_STEP).sum(0) + _PRIOR_WEIGHT * own[key]
            better = rough < least
            best[better], least[better] = key, rough[better]
        pad = np.where((y + x) % 2 == sweep % 2, best, pad)
    return pad
