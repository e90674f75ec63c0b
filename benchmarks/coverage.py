"""How often the 95 % intervals of the reports hold the truth, by simulated test sets of patients.

    python -m benchmarks.coverage                       # 4,000 test sets a case, some minutes on one core
    python -m benchmarks.coverage --replicates 400 --groups 40 --json coverage.json

Each line is the lowest coverage over true values, and the mean width there. Cases: groups of one image, of four, of very unequal size
(1 to 60, lognormal), and serial, a tenth of the patients with 10 to 20 images and the others with one; images of a patient independent (0),
correlated (0.3) or all alike (1).
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from ppdl.evaluation.predictions.intervals import Support, difference_ends, jackknife, share_ends
from ppdl.evaluation.predictions.scores import auroc

GROUPS = (5, 10, 40, 200)
SIZES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "one": lambda rng, shape: np.ones(shape, int),
    "four": lambda rng, shape: np.full(shape, 4),
    "unequal": lambda rng, shape: np.minimum(1 + rng.lognormal(0.5, 1.0, shape).astype(int), 60),
    "serial": lambda rng, shape: np.where(rng.random(shape) < 0.1, rng.integers(10, 21, shape), 1),
}
DEPENDENCE = (0.0, 0.3, 1.0)
ACCURACIES = (0.5, 0.8, 0.9, 0.95, 0.99)
DIFFERENCES = ((0.05, 0.05), (0.01, 0.01), (0.02, 0.0), (0.3, 0.3), (0.02, 0.15))  # shares that only one run gets right
AREAS = ((0.6, 0.5), (0.8, 0.2), (0.95, 0.5), (0.99, 0.5))  # AUROC, share of positive patients


Ends = tuple[np.ndarray, np.ndarray]


def accuracy(rng: np.random.Generator, n: np.ndarray, dependence: float, truth: float) -> tuple[float, Ends]:
    """Simulate test sets whose groups have `n` images, (replicates, num_groups); return the true accuracy and the intervals."""
    right = rng.binomial(n, _shares(rng, np.array([truth, 1 - truth]), dependence, n.shape)[..., 0]).astype(float)
    hits, total = right.sum(axis=1, keepdims=True), n.sum(axis=1, keepdims=True)
    return truth, share_ends((hits / total)[:, 0], jackknife((hits - right) / (total - n)), Support.of(n))


def difference(rng: np.random.Generator, n: np.ndarray, dependence: float, truth: tuple[float, float]) -> tuple[float, Ends]:
    """Simulate two runs on each test set, of which one alone is right on such shares of images."""
    shares = _shares(rng, np.array([*truth, 1 - sum(truth)]), dependence, n.shape)
    won, lost, _ = np.moveaxis(rng.multinomial(n, shares).astype(float), -1, 0)
    return truth[0] - truth[1], difference_ends(won, lost, n)


def area(rng: np.random.Generator, n: np.ndarray, dependence: float, truth: tuple[float, float]) -> tuple[float, Ends]:
    """Simulate normal scores of patients with one class each."""
    replicates, num_groups = n.shape
    ill = np.arange(num_groups) < max(2, round(truth[1] * num_groups))
    shift, estimates, variances = math.sqrt(2) * norm.ppf(truth[0]), np.empty(replicates), np.empty(replicates)
    for i, sizes in enumerate(n):
        codes = np.repeat(np.arange(num_groups), sizes)
        noise = math.sqrt(dependence) * rng.normal(size=num_groups)[codes] + math.sqrt(1 - dependence) * rng.normal(size=len(codes))
        found = auroc(shift * ill[codes] + noise, ill[codes], codes, num_groups)
        estimates[i], variances[i] = found[0], jackknife(found[1:])
    return truth[0], share_ends(estimates, variances, Support.of_pairs(n * ill, n * ~ill))


KINDS: dict[str, tuple[Callable[..., tuple[float, Ends]], tuple[Any, ...]]] = {
    "accuracy": (accuracy, ACCURACIES),
    "difference": (difference, DIFFERENCES),
    "AUROC": (area, AREAS),
}


def _shares(rng: np.random.Generator, mean: np.ndarray, dependence: float, shape: tuple[int, ...]) -> np.ndarray:
    """Draw the shares of outcomes of each group, (*shape, num_outcomes), whose correlation inside a group is `dependence`."""
    if dependence == 0:
        return np.broadcast_to(mean, (*shape, len(mean)))
    if dependence == 1:
        return rng.multinomial(1, mean, shape).astype(float)
    drawn = rng.gamma(np.maximum(mean * (1 / dependence - 1), 1e-9), 1, (*shape, len(mean))) + 1e-300
    return drawn / drawn.sum(axis=-1, keepdims=True)


def cases(groups: list[int], replicates: int, seed: int) -> Iterator[dict[str, Any]]:
    """Simulate every case: coverage and mean width."""
    for kind, (simulate, truths) in KINDS.items():
        for num_groups in groups:
            for sizes, draw in SIZES.items():
                for dependence in DEPENDENCE if sizes != "one" else (0.0,):
                    for truth in truths:
                        rng = np.random.default_rng([seed, num_groups, len(sizes), int(10 * dependence)])
                        value, (low, high) = simulate(rng, draw(rng, (replicates, num_groups)), dependence, truth)
                        covered = (low - 1e-9 <= value) & (value <= high + 1e-9)  # sums in another order differ by rounding
                        case = {"metric": kind, "groups": num_groups, "sizes": sizes, "dependence": dependence, "truth": truth}
                        yield case | {"coverage": float(covered.mean()), "width": float((high - low).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=4000, metavar="N", help="test sets a case (4000)")
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS, metavar="N", help="numbers of groups (5 10 40 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every case as JSON")
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    print("metric      groups  sizes    dependence  lowest coverage  at            mean width")
    for case in cases(args.groups, args.replicates, args.seed):
        found.append(case)
        if case["truth"] != KINDS[case["metric"]][1][-1]:
            continue
        same = [c for c in found if all(c[key] == case[key] for key in ("metric", "groups", "sizes", "dependence"))]
        worst = min(same, key=lambda c: c["coverage"])
        line = f"{case['metric']:<10} {case['groups']:>7}  {case['sizes']:<8} {case['dependence']:>9}"
        print(f"{line}  {100 * worst['coverage']:>13.1f} %  {worst['truth']!s:<12}  {worst['width']:>10.3f}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
