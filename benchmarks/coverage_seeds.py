"""How often the intervals of several training seeds hold the truth, by simulated cross-validations of 5 folds.

    python -m benchmarks.coverage_seeds                 # 3 seeds, 2,000 cross-validations a case
    python -m benchmarks.coverage_seeds --replicates 150 --groups 40 200 --json coverage.json   # 21 s of a core

Films and networks are drawn anew each time, and the truth is that of all of both. A film is right where its score is above 0, a normal
one: a mean, what all networks find hard in the film (with a part that films of a group share), what one network finds hard in it, and an
effect of the network, the same for all its films. Column `networks`: the standard deviation of that effect where a film's score has 1; at
an accuracy of 95 % 0.1 are one point a network. Each line is the lowest coverage over true values, with the mean width there; `narrow`:
the lowest of the intervals for the networks at hand, which other seeds are not in.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from benchmarks.coverage import SIZES, Ends
from ppdl.evaluation.measures.statistics import without_groups
from ppdl.evaluation.predictions.intervals import Support, difference_ends, jackknife, share_ends
from ppdl.evaluation.predictions.scores import auroc
from ppdl.evaluation.predictions.seeds import Spread

NUM_FOLDS = 5
NETWORKS = (0.0, 0.1, 0.3)
SHARED = 0.6  # of the variance of a film's score: what all networks find hard
ACCURACIES = (0.8, 0.95, 0.99)
PAIRS = ((0.9, 0.9), (0.95, 0.93), (0.97, 0.97))  # accuracies of two runs
AREAS = (0.8, 0.95, 0.99)  # AUROC, half of the patients ill
CASES = (("one", 0.0), ("four", 0.3), ("unequal", 0.3))  # sizes of groups, and how alike their images are


@dataclass(frozen=True)
class Study:
    """Draw cross-validations of `num_seeds` seeds whose networks differ by `networks`; images of a group are alike by `dependence`.

    Each method returns the true value, the intervals, and those for the networks at hand, of groups of `n` images (replicates, num_groups).
    """

    num_seeds: int
    networks: float
    dependence: float

    def accuracy(self, rng: np.random.Generator, n: np.ndarray, truth: float) -> tuple[float, Ends, Ends]:
        hits = np.empty((len(n), self.num_seeds, n.shape[1]))
        for i, sizes in enumerate(n):
            (right,), codes = self._right(rng, sizes, (truth,))
            hits[i] = by_group(right, codes)
        mean = without_groups(hits.mean(axis=1), n)
        return truth, *widened(without_groups(hits, n[:, None]), share_ends(mean[:, 0], jackknife(mean[:, 1:]), Support.of(n)))

    def difference(self, rng: np.random.Generator, n: np.ndarray, truth: tuple[float, float]) -> tuple[float, Ends, Ends]:
        won, lost = np.empty((2, len(n), self.num_seeds, n.shape[1]))
        for i, sizes in enumerate(n):
            (first, second), codes = self._right(rng, sizes, truth)
            won[i], lost[i] = by_group(first & ~second, codes), by_group(second & ~first, codes)
        ends = difference_ends(won.mean(axis=1), lost.mean(axis=1), n.astype(float))
        return truth[0] - truth[1], *widened(without_groups(won - lost, n[:, None]), ends, least=-1.0)

    def area(self, rng: np.random.Generator, n: np.ndarray, truth: float) -> tuple[float, Ends, Ends]:
        """Networks differ in how far they tell the ill from the well. Every second group of a fold is ill."""
        num_groups = n.shape[1]
        ill, shift = np.arange(num_groups) // NUM_FOLDS % 2 == 0, norm.ppf(truth) * math.hypot(math.sqrt(2), self.networks)
        values = np.empty((len(n), self.num_seeds, 1 + num_groups))
        for i, sizes in enumerate(n):
            codes = np.repeat(np.arange(num_groups), sizes)
            scores = self._films(rng, codes, 1) + self._films(rng, codes, self.num_seeds) + (shift + self._effects(rng, codes)) * ill[codes]
            values[i] = [auroc(row, ill[codes], codes, num_groups) for row in scores]
        mean = values.mean(axis=1)
        ends = share_ends(mean[:, 0], jackknife(mean[:, 1:]), Support.of_pairs(n * ill, n * ~ill))
        return truth, *widened(values, ends)

    def _right(self, rng: np.random.Generator, sizes: np.ndarray, truths: tuple[float, ...]) -> tuple[list[np.ndarray], np.ndarray]:
        """Return which images each run is right on, (num_seeds, num_images) each, and the group of each image."""
        codes = np.repeat(np.arange(len(sizes)), sizes)
        hard, found = self._films(rng, codes, 1), []
        for truth in truths:
            mean = norm.ppf(truth) * math.hypot(1, self.networks)
            found.append(mean + hard + self._films(rng, codes, self.num_seeds) + self._effects(rng, codes) > 0)
        return found, codes

    def _effects(self, rng: np.random.Generator, codes: np.ndarray) -> np.ndarray:
        return self.networks * rng.normal(size=(self.num_seeds, NUM_FOLDS))[:, codes % NUM_FOLDS]

    def _films(self, rng: np.random.Generator, codes: np.ndarray, rows: int) -> np.ndarray:
        """Return effects of films, (rows, num_images): one row is for all networks, and has SHARED of their variance."""
        of_groups, of_films = rng.normal(size=(rows, codes.max() + 1))[:, codes], rng.normal(size=(rows, len(codes)))
        own = math.sqrt(self.dependence) * of_groups + math.sqrt(1 - self.dependence) * of_films
        return math.sqrt(SHARED if rows == 1 else 1 - SHARED) * own


def by_group(right: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Count images by seed and group: (num_seeds, num_groups)."""
    return np.stack([np.bincount(codes, row) for row in right])


def widened(values: np.ndarray, narrow: Ends, least: float = 0.0) -> tuple[Ends, Ends]:
    """Return intervals that hold for other seeds too, and those that do not; `values`: (replicates, num_seeds, 1 + num_groups)."""
    spread = Spread.of(values, np.arange(values.shape[-1] - 1) % NUM_FOLDS)
    return spread.widen(values[..., 0].mean(axis=1), *narrow, least=least), narrow


KINDS: dict[str, tuple[Callable[..., tuple[float, Ends, Ends]], tuple[Any, ...]]] = {
    "accuracy": (Study.accuracy, ACCURACIES),
    "difference": (Study.difference, PAIRS),
    "AUROC": (Study.area, AREAS),
}


def cases(num_seeds: int, groups: list[int], replicates: int, seed: int) -> Iterator[list[dict[str, Any]]]:
    """Simulate, for each kind of study, every true value: coverage and mean width."""
    for kind, (simulate, truths) in KINDS.items():
        for num_groups in groups:
            for sizes, dependence in CASES:
                for networks in NETWORKS:
                    same, study = [], Study(num_seeds, networks, dependence)
                    for truth in truths:
                        rng = np.random.default_rng([seed, num_groups, len(sizes), int(10 * networks)])
                        value, wide, narrow = simulate(study, rng, SIZES[sizes](rng, (replicates, num_groups)), truth)
                        case = {"metric": kind, "groups": num_groups, "sizes": sizes, "networks": networks, "truth": truth}
                        case |= {"coverage": held(wide, value), "narrow": held(narrow, value)}
                        same.append(case | {"width": float((wide[1] - wide[0]).mean())})
                    yield same


def held(ends: Ends, value: float) -> float:
    """Return the share of intervals that hold a value; sums in another order differ by rounding."""
    return float(((ends[0] - 1e-9 <= value) & (value <= ends[1] + 1e-9)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="training seeds (3)")
    parser.add_argument("--replicates", type=int, default=2000, metavar="N", help="cross-validations a case (2000)")
    parser.add_argument("--groups", type=int, nargs="+", default=(40, 200, 1000), metavar="N", help="numbers of groups (40 200 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every case as JSON")
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    print("metric      groups  sizes    networks  lowest coverage  at            mean width  narrow")
    for same in cases(args.seeds, args.groups, args.replicates, args.seed):
        found += same
        worst, narrow = min(same, key=lambda case: case["coverage"]), min(case["narrow"] for case in same)
        line = f"{worst['metric']:<10} {worst['groups']:>7}  {worst['sizes']:<8} {worst['networks']:>8}  {100 * worst['coverage']:>13.1f} %"
        print(f"{line}  {worst['truth']!s:<12}  {worst['width']:>10.3f}  {100 * narrow:>5.1f} %", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
