"""What a pooled head is worth under differential privacy, on real images, by the folds of a cross-validation, and what attacks still find.

    python -m benchmarks.pooled_privacy crossval/mine              # the folder of `python -m benchmarks.pooled_xrays`
    python -m benchmarks.pooled_privacy crossval/mine --json

Films, folds, features and hospitals (three, iid) are those of that benchmark, and the head is asked in int8 as there. Shares of the budget
and strength are not chosen on any film here; the clip is a guess, which --clip changes. Each draw of the noise is one training: accuracies
are means over draws, and their intervals hold for other films and other draws. Attacks are those on the key holder's total, of one draw a
fold; `leverage` and `quadratic` have the repaired total, `pool` the noised one, and all of them candidates that are clipped as members are.
`all others known` is computed: no test of one patient, by whoever knows all other films, has a larger area, were the noise normal.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import ndtr

from benchmarks.pooled_xrays import BITS, STRENGTHS, Images, Told, attack_total, read
from ppdl.audit.pool.films import Films
from ppdl.errors import DataError
from ppdl.evaluation.measures.metrics import evaluate
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.predictions.seeds import pool_seeds
from ppdl.pooling.privacy.noise import Noise, moved
from ppdl.pooling.privacy.promise import Privacy
from ppdl.pooling.ridge import fit_ridge
from ppdl.pooling.sums import Sums

EPSILONS, SIZES, DRAWS = (1.0, 3.0, 8.0, 30.0), (16, 32, 60), 5
DELTA, COLLUDERS, CLIP = 1e-6, 1, 0.5
NUM_HOSPITALS = 3


def matrix(sums: Sums) -> np.ndarray:
    """Return a total as attacks have it: see `ppdl.audit.pool.films.second_moments`."""
    return np.block([[np.diag(sums.class_counts), sums.class_sums], [sums.class_sums.T, sums.gram]]).astype(np.float64)


def noise_of(images: Images, epsilon: float, num_features: int, colluders: int, clip: float) -> Noise:
    promise = Privacy(epsilon=epsilon, delta=DELTA, colluders=colluders, films_per_patient=1, clip=clip)
    return Noise(promise, NUM_HOSPITALS, len(images.class_names), num_features, BITS)


def total_of(images: Images, features: np.ndarray, rows: np.ndarray, noise: Noise, *, noised: bool) -> tuple[Sums, Sums]:
    """Return the total that the key holder solves from, and the one that he decrypted. Raises: DataError, see `Noise.opened`."""
    sizes = {"num_classes": noise.num_classes, "num_features": noise.num_features, "feature_bits": BITS}
    parts = [noise.sums(features[own], images.labels[own]) for own in images.shares(rows)["iid"].values()]
    flat = sum(parts, start=np.zeros(len(noise.film), np.int64))
    if not noised:
        clear = moved(Sums.from_flat(flat, **sizes), noise.middle)
        return clear, clear
    flat = sum((noise.draw() for _ in parts), start=flat)
    return noise.opened(flat, len(rows), len(parts)), moved(Sums.from_flat(flat, **sizes), noise.middle)


def examine_one(images: Images, features: np.ndarray, epsilon: float | None, draws: int, colluders: int, clip: float) -> dict[str, Any]:
    """Return the row of a number of features and an epsilon, None for no noise."""
    noise, told, seeds = noise_of(images, epsilon or 1.0, features.shape[1], colluders, clip), Told(), []
    clipped, failed = noise.clipped(features), 0
    for draw in range(draws if epsilon else 1):
        folds = []
        for k in range(images.folds.max() + 1):
            rows, others = np.flatnonzero(images.folds != k), np.flatnonzero(images.folds == k)
            logits = np.zeros((len(others), len(images.class_names)))
            try:
                total, decrypted = total_of(images, features, rows, noise, noised=epsilon is not None)
                head, _ = fit_ridge(total, STRENGTHS, class_names=images.class_names, backbone={})
                logits = head.logits(head.quantise(features[others] / (2**BITS - 1))) * head.logit_scale
                if draw == 0:
                    members, outside = (Films(clipped[of], images.labels[of], images.groups[of]) for of in (rows, others))
                    totals = matrix(total), matrix(decrypted)
                    attack_total(told, "key holder", members, outside, noise.num_classes, np.random.default_rng(k), totals)
            except DataError:  # a class has fewer films than noise: no head, and all films are called the first class
                failed += 1
            folds.append(Predictions(images.labels[others], logits, images.groups[others], images.paths[others], images.class_names))
        seeds.append(folds)
    figures = evaluate(pool_seeds(seeds, image_ids=images.paths.tolist()))
    return {
        "num_features": features.shape[1],
        "epsilon": epsilon,
        "epsilon_alone": noise.epsilon_alone if epsilon else None,
        "multiplier": noise.multiplier if epsilon else 0.0,
        "auc_all_others_known": float(ndtr(1 / (np.sqrt(2) * noise.multiplier))) if epsilon else 1.0,
        "clipped": float((clipped != features).any(axis=1).mean()),
        "heads_failed": failed,
        **{key: figures[key] for key in ("accuracy", "accuracy_low", "accuracy_high", "auroc")},
        "attacks": list(told.rows()),
    }


def show(found: list[Mapping[str, Any]]) -> None:
    """Print the curve."""
    table = Table(title=f"Accuracy, % [95 %], and areas under the ROC curve of attacks on the total; delta {DELTA:g}")
    for column in (
        "features",
        "epsilon",
        "of one hospital's sums",
        "noise",
        "accuracy",
        "no head",
        "leverage",
        "quadratic",
        "pool",
        "all others known",
    ):
        table.add_column(column)
    for row in found:
        accuracy = "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * row[f"accuracy{end}"] for end in ("", "_low", "_high")))
        areas = {one["attack"]: "{auc:.2f} [{auc_low:.2f}, {auc_high:.2f}]".format(**one) for one in row["attacks"]}
        epsilons = (f"{row[key]:.3g}" if row["epsilon"] else "infinite" for key in ("epsilon", "epsilon_alone"))
        attacks = (areas.get(attack, "") for attack in ("leverage", "quadratic", "pool"))
        table.add_row(
            str(row["num_features"]),
            *epsilons,
            f"{row['multiplier']:.2f}",
            accuracy,
            str(row["heads_failed"]),
            *attacks,
            f"{row['auc_all_others_known']:.2f}",
        )
    Console(width=200).print(table)


def main() -> None:
    """Parse arguments, examine, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a finished cross-validation of private_head")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the noise")
    parser.add_argument("--colluders", type=int, default=COLLUDERS, help="of three hospitals; 2: each hospital's own sums keep the promise")
    parser.add_argument("--clip", type=float, default=CLIP, help="see ppdl.pooling.privacy.promise.Privacy")
    parser.add_argument("--features", type=int, nargs="+", default=SIZES)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    images, found = read(args.folder), []
    for num_features in args.features:
        features = images.features(num_features)
        found += [examine_one(images, features, epsilon, args.draws, args.colluders, args.clip) for epsilon in (*EPSILONS, None)]
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)


if __name__ == "__main__":
    main()
