"""What a head of several hospitals gives on real images, and who can tell whose films trained it, by the folds of a cross-validation.

    python -m stages.crossval +experiment=transfer dataset.root=/data/xrays 'crossval.runs=[plain,private_head]' crossval.name=mine
    python -m benchmarks.pooled_xrays crossval/mine                        # minutes on 2 cores
    python -m benchmarks.pooled_xrays crossval/mine --encrypted --json     # each fold's total summed and asked under Paillier too

The films of a fold are those that it does not test on; three hospitals share them, iid or by class, and of either the sums add up to those
in the clear, integer for integer, or this stops. Features are those of private_head's backbone, all of them or so many principal components
of public phantoms, in 12 bits (`ppdl.training.networks.features.public_layer`); the strength is that of generalised cross-validation on the
total. So nothing is chosen on tested films. An integer head is asked as private inference asks it: uint8 features, int8 weights.

An area under the ROC curve is the mean over folds, members being a fold's films and others its test films. Its interval counts the
members of one fold, and each tested film once. `found` is the least true area that would have been found four times of five.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ppdl.audit.pool import membership, published
from ppdl.audit.pool.films import Films, second_moments
from ppdl.audit.pool.separation import auc_interval, effective_number, separation, smallest_auc
from ppdl.crypto.artifact.shards import hash_file
from ppdl.datasets.phantoms.public import PUBLIC_SEED, public_phantoms
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.datasets.prepared.splitting import Split, assign_splits
from ppdl.errors import DataError
from ppdl.evaluation.measures.metrics import evaluate
from ppdl.evaluation.measures.statistics import compare
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.experiment.pool_view import published_head
from ppdl.experiment.results.crossval import kept_seeds, read_pooled
from ppdl.pooling.ridge import fit_ridge, solve
from ppdl.pooling.sharing import FILMS_A_FEATURE, share_at_random, share_by_name
from ppdl.pooling.sums import Sums, integer_features, slot_bits, sums_of
from ppdl.private_head.head import QuantisedHead
from ppdl.records.atomic import replacing
from ppdl.training.networks.features import load_extractor, public_layer

HEAD = "private_head"
BITS, RATIOS, MARGIN = 12, (1, 2, 4, 8, FILMS_A_FEATURE), 0.02
STRENGTHS = tuple(10.0 ** np.arange(-4, 1.1, 0.5))
NUM_PHANTOMS = 1600
MASK_BITS = 40
FLOAT32_STEP = 2.0**-23


@dataclass(frozen=True, eq=False)
class Images:
    """Hold a finished cross-validation: raw features (num_images, num_values), those of phantoms, and what is known of each image."""

    folder: Path
    raw: np.ndarray
    public: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    paths: np.ndarray
    class_names: tuple[str, ...]
    seed: int

    def features(self, num_features: int) -> np.ndarray:
        """Return integer features (num_images, num_features), from what is public alone."""
        weights, biases = public_layer(self.public, num_features)
        return integer_features(np.clip(self.raw @ weights + biases, 0, 1), BITS)

    def sums(self, features: np.ndarray, rows: np.ndarray) -> Sums:
        return sums_of(features[rows], self.labels[rows], num_classes=len(self.class_names), feature_bits=BITS)

    def films(self, features: np.ndarray, rows: np.ndarray) -> Films:
        return Films(features[rows], self.labels[rows], self.groups[rows])

    def shares(self, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Share the films of a fold out to hospitals: {"iid": rows by hospital, "by class": the same}."""
        labels, groups, names = self.labels[rows], self.groups[rows], [self.class_names[i] for i in self.labels[rows]]
        found = {
            "iid": share_at_random(rows, labels, groups, 3, self.seed),
            "by class": share_by_name(rows, groups, names, divided=True),
        }
        return {how: {name: np.array(own) for name, own in shares.items()} for how, shares in found.items()}

    def predictions(self, logits: np.ndarray) -> Predictions:
        return Predictions(self.labels, logits, self.groups, self.paths, self.class_names)

    def tested(self, run: str) -> Predictions:
        """Return the predictions of a run, of all its seeds: of RUN here, or of PATH/RUN. Raises: DataError where it has none."""
        folder, name = Path(run).parent if "/" in run else self.folder, Path(run).name
        return read_pooled(folder, name, self.folds.max() + 1, kept_seeds(folder, name), self.paths)


def read(folder: Path) -> Images:
    """Read a cross-validation with private_head, and compute the features of phantoms with its backbone."""
    prepared, backbone = load_prepared(folder / "data/prepared"), folder / "models" / HEAD / "backbone.keras"
    with np.load(folder / "data/features" / HEAD / "features.npz") as file:
        raw = file["features"]
    index, split = prepared.index, Split(**prepared.meta["params"]["split"])
    labels, groups = index["label"].to_numpy(), index["group"].to_numpy()
    folds, _ = assign_splits(labels, groups, split, class_names=prepared.class_names)
    public = public_features(backbone, prepared.meta["prepared_px"], folder / "data/features/phantoms.npz")
    return Images(folder, raw, public, labels, groups, folds, index["path"].to_numpy(), prepared.class_names, split.seed)


def public_features(backbone: Path, px: int, kept: Path) -> np.ndarray:
    """Return the features of phantoms, (NUM_PHANTOMS, num_values) float32, and keep them beside the others: they take minutes."""
    sha256 = hash_file(backbone)
    if kept.exists():
        with np.load(kept) as file:
            if str(file["sha256"]) == sha256:
                return file["features"]
    found = load_extractor(backbone, sha256=sha256)(public_phantoms(NUM_PHANTOMS, px, px, seed=PUBLIC_SEED))
    with replacing(kept) as unfinished, unfinished.open("wb") as file:
        np.savez(file, features=found, sha256=sha256)
    return found


class Tested:
    """Collect logits of all images, of each fold by the head that has not seen it."""

    def __init__(self, images: Images) -> None:
        self.images, self.logits = images, dict[str, np.ndarray]()

    def add(self, name: str, rows: np.ndarray, logits: np.ndarray) -> None:
        self.logits.setdefault(name, np.full((len(self.images.labels), len(self.images.class_names)), np.nan))[rows] = logits

    def rows(self, references: list[str]) -> list[dict[str, Any]]:
        """Return the figures of each row of the table."""
        bases, images = {name: self.images.tested(name) for name in references}, self.images
        runs = {name: images.predictions(logits) for name, logits in self.logits.items()}
        found = []
        for name, run in {**bases, HEAD: images.tested(HEAD), **runs}.items():
            figures, minus = evaluate(run), {}
            for reference, base in bases.items():
                if reference != name:
                    pair = compare(base, run, margin=MARGIN)
                    minus[reference] = {"difference": pair.difference, "low": pair.low, "high": pair.high, "verdict": pair.verdict}
            row = {key: figures[key] for key in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "auroc", "ece")}
            found.append({"run": name} | row | {"minus": minus})
        return found


class Told:
    """Collect how well attacks tell members from others, over folds."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], list[tuple[float, Films, Films]]] = {}

    def add(self, party: str, attack: str, scores: np.ndarray, members: Films, others: Films) -> None:
        area = separation(scores[: len(members)], scores[len(members) :], members.groups, others.groups)["auc"]
        self.entries.setdefault((party, attack), []).append((area, members, others))

    def rows(self) -> Iterator[dict[str, Any]]:
        for (party, attack), found in self.entries.items():
            areas = [area for area, _, _ in found]
            sizes = (
                min(effective_number(members.groups) for _, members, _ in found),
                effective_number(np.concatenate([others.groups for _, _, others in found])),
            )
            low, high = auc_interval(float(np.mean(areas)), *sizes)
            yield {
                "party": party,
                "attack": attack,
                "num_films": int(np.mean([len(members) for _, members, _ in found])),
                "auc": float(np.mean(areas)),
                "auc_low": low,
                "auc_high": high,
                "auc_found": smallest_auc(*sizes)[1],
            }


def examine_fold(images: Images, features: np.ndarray, k: int, tested: Tested, told: Told) -> QuantisedHead:
    """Train on the films of one fold, test the head on the others, attack it, and return it."""
    rows, others = np.flatnonzero(images.folds != k), np.flatnonzero(images.folds == k)
    total, name = images.sums(features, rows), f"pooled, {features.shape[1]} features"
    for how, shares in images.shares(rows).items():
        parts = sum((images.sums(features, own) for own in list(shares.values())[1:]), images.sums(features, next(iter(shares.values()))))
        if not np.array_equal(parts.flat(), total.flat()):
            raise DataError(f"the sums of hospitals {how} are not those of all films together")
    weights, bias, strength = solve(total, STRENGTHS)
    head, _ = fit_ridge(total, [strength], class_names=images.class_names, backbone={})
    tested.add(f"{name}, int8", others, head.logits(head.quantise(features[others] / (2**BITS - 1))) * head.logit_scale)
    tested.add(f"{name}, before rounding", others, features[others] @ weights.T + bias)
    members, outside = images.films(features, rows), images.films(features, others)
    attack_total(told, "key holder", members, outside, len(images.class_names), np.random.default_rng(k))
    first = next(iter(images.shares(rows)["iid"].values()))
    own, rest = images.films(features, first), images.films(features, np.setdiff1d(rows, first))
    attack_total(told, "key holder with a hospital, on another's sums", own, outside, len(images.class_names), np.random.default_rng(k))
    view = published_head(head, members + outside, num_films=len(rows), strength=strength, feature_bits=BITS)
    told.add("user of the head", "margin", published.margins(members + outside, view), members, outside)
    told.add("user of the head", "pool", published.pool(members + outside, view), members, outside)
    told.add("hospital, on the others' films", "pool", published.pool(rest + outside, view, own), rest, outside)
    step = float(np.abs(weights).max()) * FLOAT32_STEP
    exact = published.PublishedHead(weights, bias, step, step, view.penalty, len(rows))
    told.add("control: a head in float32", "pool", published.pool(members + outside, exact), members, outside)
    return head


def test_alone(images: Images, features: np.ndarray, k: int, tested: Tested) -> None:
    """Test what each of three hospitals gets from its own films, iid. By class each has one class, and no classifier."""
    rows, others = np.flatnonzero(images.folds != k), np.flatnonzero(images.folds == k)
    for number, own in enumerate(images.shares(rows)["iid"].values(), 1):
        head, _ = fit_ridge(images.sums(features, own), STRENGTHS, class_names=images.class_names, backbone={})
        logits = head.logits(head.quantise(features[others] / (2**BITS - 1))) * head.logit_scale
        tested.add(f"hospital {number} of 3 alone (iid), {features.shape[1]} features, int8", others, logits)


def attack_total(
    told: Told,
    party: str,
    members: Films,
    others: Films,
    num_classes: int,
    rng: np.random.Generator,
    totals: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Attack the total over the members. The quadratic test takes one half of the others as its reference films, for the other half.

    Args:
        totals: for the attacks on one film, and for that on all together; None: the members' own, without noise.
    """
    total, pooled = totals or 2 * (second_moments(members.design(num_classes)),)
    candidates = members + others
    told.add(party, "leverage", membership.leverage(candidates, total), members, others)
    order = rng.permutation(len(others))
    for half, reference in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        scores = membership.quadratic(members + others[half], total, others[reference])
        told.add(party, "quadratic", scores, members, others[half])
    told.add(party, "pool", membership.pool(candidates, pooled), members, others)


def in_the_clear(images: Images, tested: Tested) -> None:
    """Test ridge regression on the raw features in floating point, its strength by generalised cross-validation: scikit-learn's."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for k in range(images.folds.max() + 1):
        rows, others = np.flatnonzero(images.folds != k), np.flatnonzero(images.folds == k)
        model = make_pipeline(StandardScaler(), RidgeCV([s * len(rows) for s in STRENGTHS]))
        model.fit(images.raw[rows], np.eye(len(images.class_names))[images.labels[rows]])
        tested.add(f"ridge in the clear, float, {images.raw.shape[1]} features", others, model.predict(images.raw[others]))


def encrypted(images: Images, features: np.ndarray, k: int, key_bits: int, head: QuantisedHead, tested: Tested) -> None:
    """Sum one fold under encryption, hospital by hospital, open the total, compare it and the head, and test the head on ciphertexts."""
    from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
    from ppdl.crypto.arithmetic.packing import WidePacking
    from ppdl.crypto.arithmetic.paillier import add_ciphertexts, decrypt_batch, encrypt_batch
    from ppdl.crypto.keys.keypair import generate_keypair
    from ppdl.crypto.keys.purpose import FEDERATION, INFERENCE
    from ppdl.private_head.inference import Inference

    rows, others = np.flatnonzero(images.folds != k), np.flatnonzero(images.folds == k)
    key, total = generate_keypair(key_bits, purpose=FEDERATION), images.sums(features, rows)
    packing, parts = WidePacking(key_bits, slot_bits(len(rows), BITS)), []
    for own in images.shares(rows)["iid"].values():
        plaintexts = packing.pack(images.sums(features, own).flat())
        parts.append(encrypt_batch(key.public, plaintexts, build_obfuscators(key.public, num_ciphertexts=len(plaintexts))))
    flat = packing.unpack(decrypt_batch(key, add_ciphertexts(key.public, *parts)), len(total.flat()))
    opened = Sums.from_flat(flat, num_classes=total.num_classes, num_features=total.num_features, feature_bits=BITS)
    again, _ = fit_ridge(opened, STRENGTHS, class_names=images.class_names, backbone={})
    if not np.array_equal(flat, total.flat()) or not np.array_equal(again.weights, head.weights):
        raise DataError("the opened total is not that of all films in the clear")
    asked = again.quantise(features[others] / (2**BITS - 1))
    answers = Inference(MASK_BITS).run(again, asked, generate_keypair(key_bits, purpose=INFERENCE))
    tested.add(f"pooled, {features.shape[1]} features, summed and asked under encryption", others, answers.logits * again.logit_scale)


def examine(images: Images, wanted: list[int] | None, key_bits: int | None, references: list[str]) -> dict[str, Any]:
    """Return {"accuracy": rows, "membership": rows}.

    Args:
        wanted: numbers of features; None: all of them, and so many that RATIOS films come on each.
        key_bits: of encrypted sums, for all features and for 16 films a feature; None: none are encrypted.
    """
    tested, attacked = Tested(images), []
    in_the_clear(images, tested)
    num_films, num_values = int((images.folds != 0).sum()), images.raw.shape[1]
    sizes = [num_values, *(d for d in (num_films // ratio for ratio in RATIOS) if d < num_values)]
    for num_features in wanted or sizes:
        told, features = Told(), images.features(num_features)
        for k in range(images.folds.max() + 1):
            head = examine_fold(images, features, k, tested, told)
            if num_features not in (sizes[0], sizes[-1]):
                continue
            test_alone(images, features, k, tested)
            if key_bits:
                encrypted(images, features, k, key_bits, head, tested)
        attacked += [{"num_features": num_features, "ratio": round(num_films / num_features, 2)} | row for row in told.rows()]
    return {"accuracy": tested.rows(references), "membership": attacked}


def show(found: Mapping[str, Any], references: list[str]) -> None:
    """Print both tables."""
    table = Table(title="Accuracy, % [95 %]")
    for column in ("run", "accuracy", "macro F1", "AUROC", "ECE", *(f"minus {name}, points; at {100 * MARGIN:g}" for name in references)):
        table.add_column(column)
    for row in found["accuracy"]:
        accuracy = "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * row[f"accuracy{end}"] for end in ("", "_low", "_high")))
        pairs = [
            "{:+.1f} [{:+.1f}, {:+.1f}], {}".format(*(100 * pair[key] for key in ("difference", "low", "high")), pair["verdict"])
            if (pair := row["minus"].get(name))
            else ""
            for name in references
        ]
        table.add_row(row["run"], accuracy, f"{row['macro_f1']:.3f}", f"{row['auroc']:.3f}", f"{row['ece']:.3f}", *pairs)
    Console(width=200).print(table)
    table = Table(title="Whose films: area under the ROC curve [95 %], by films a feature")
    ratios = list(dict.fromkeys((row["ratio"], row["num_features"]) for row in found["membership"]))
    for column in ("party", "attack", "found", *(f"{ratio:g} (d = {d})" for ratio, d in ratios)):
        table.add_column(column)
    for party, attack in dict.fromkeys((row["party"], row["attack"]) for row in found["membership"]):
        mine = [row for row in found["membership"] if (row["party"], row["attack"]) == (party, attack)]
        cells = ["{auc:.2f} [{auc_low:.2f}, {auc_high:.2f}]".format(**row) for row in mine]
        table.add_row(party, attack, f"{mine[0]['auc_found']:.2f}", *cells)
    Console(width=200).print(table)


def main() -> None:
    """Parse arguments, examine, print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a finished cross-validation of private_head")
    parser.add_argument(
        "--references", nargs="+", default=["plain"], metavar="RUN", help="to compare with: of the folder, or PATH/RUN of another (plain)"
    )
    parser.add_argument("--features", type=int, nargs="+", metavar="N", help="only so many (all of the backbone's, and 1 to 16 films each)")
    parser.add_argument("--encrypted", type=int, nargs="?", const=2048, metavar="BITS", help="sum and ask under Paillier (2048)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    images = read(args.folder)
    for name in args.references:
        images.tested(name)  # refused before minutes of work
    found = examine(images, args.features, args.encrypted, args.references)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    show(found, args.references)


if __name__ == "__main__":
    main()
