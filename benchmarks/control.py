"""How often the test of a negative control rejects chance: networks that know nothing, and networks that know something.

    python -m benchmarks.control                    # 4,000 studies a case without knowledge, 40 with; minutes on one core

Films of one patient are answered independently of each other, or all alike. Knowledge: the share of films (or patients) whose label the
network was told. Without knowledge the rate must stay at the level, 5 %; with it the level is that of the stage, 0.01 %.
"""

import argparse
from collections.abc import Callable

import numpy as np

from ppdl.evaluation.measures.permutation import BEATS_CHANCE, permutation_test
from ppdl.evaluation.predictions.predictions import Predictions

NUM_CLASSES = 2
Patients = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def _equal(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return np.full(100, 3), np.arange(100) % 2


def _unequal(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(1 + rng.lognormal(0.5, 1.0, 100).astype(int), 60), np.arange(100) % 2


def _serial(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    ill = np.arange(130) >= 100
    return np.where(ill, rng.integers(5, 13, 130), 1), ill.astype(int)


CASES: dict[str, Patients] = {"100 patients, 3 films": _equal, "100, 1 to 60 films": _unequal, "100 of 1 film, 30 ill of 5 to 12": _serial}


def rate(patients: Patients, *, alike: bool, knowledge: float, alpha: float, studies: int, seed: int) -> float:
    """Return how often chance is rejected."""
    rng, rejected = np.random.default_rng(seed), 0
    for study in range(studies):
        sizes, classes = patients(rng)
        groups = np.repeat(np.arange(len(sizes)), sizes)
        labels, n = classes[groups], len(groups)
        guess, told = rng.integers(NUM_CLASSES, size=n), rng.random(n) < knowledge
        if alike:
            guess, told = guess[: len(sizes)][groups], told[: len(sizes)][groups]
        said = np.where(told, labels, guess)
        predictions = Predictions(labels, np.eye(NUM_CLASSES)[said], groups, np.arange(n), ("well", "ill"))
        permutations = int(np.ceil(1 / alpha)) - 1
        found = permutation_test(predictions, num_permutations=permutations, seed=study, alpha=alpha)
        rejected += found.verdict == BEATS_CHANCE
    return rejected / studies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=4000, metavar="N", help="without knowledge; a hundredth of it with (4000)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    levels = (0.25, 0.5, 0.75)
    print(f"{'patients':<34} {'films':<12} knows nothing, at 5 %   " + "  ".join(f"knows {level:.0%}" for level in levels) + ", at 0.01 %")
    for name, patients in CASES.items():
        for alike in (False, True):
            wrong = rate(patients, alike=alike, knowledge=0, alpha=0.05, studies=args.studies, seed=args.seed)
            few = {"alpha": 1e-4, "studies": args.studies // 100, "seed": args.seed + 1}
            power = [rate(patients, alike=alike, knowledge=level, **few) for level in levels]
            films = "alike" if alike else "independent"
            print(f"{name:<34} {films:<12} {wrong:>20.1%}   " + "  ".join(f"{share:>9.0%}" for share in power), flush=True)


if __name__ == "__main__":
    main()
