"""Federated averaging on real X-rays: how much accuracy it costs, of what each hospital has alone and of what all films together give.

    python -m benchmarks.federated_xrays out --root /data/xrays --classes COVID Normal "Viral Pneumonia" --weights FILE   # 20 core minutes
    python -m benchmarks.federated_xrays out --show           # the table of what is there

Three hospitals share the training films of one grouped split, patients or near duplicates whole: iid, or by class, where each class is
shared out by a Dirichlet distribution of 0.3. Every row is trained by the same code with the same rates and number of passes: `central`
is one hospital that has all films, `alone` each of the three with its own films, and the mean of their accuracies. `float` averages in
floating point, `16 bits` by the integers that hospitals encrypt. With --encrypted one federation, iid, is summed under Paillier too, each
sum compared with the integers in the clear. The last round counts: nothing is chosen on test films.

Each training writes OUT/NAME.json and OUT/NAME.npz, and those that are there are not trained again. With --lock FILE each waits for it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.table import Table

from ppdl.datasets.prepared.arrays import Prepared, load_prepared
from ppdl.datasets.prepared.splitting import Split
from ppdl.datasets.preparing.prepare import prepare
from ppdl.datasets.sources.folder import Folder
from ppdl.evaluation.measures.baselines import border_baseline
from ppdl.evaluation.measures.metrics import evaluate
from ppdl.evaluation.measures.statistics import compare
from ppdl.evaluation.predictions.predictions import Predictions, predictions_of
from ppdl.evaluation.predictions.seeds import pool_seeds
from ppdl.experiment.federation import Averaged, EncryptedSums, Federation
from ppdl.pooling.board import Board
from ppdl.pooling.rehearsal import roster_of
from ppdl.pooling.sharing import Averaging, share_at_random
from ppdl.pooling.subjects.mean import MeanSums
from ppdl.protections.view import plain_view
from ppdl.records.atomic import replacing
from ppdl.training.fitting.settings import Training
from ppdl.training.networks.model import MobileNetV2

if TYPE_CHECKING:
    from ppdl.training.federated.local import Local

PX, NUM_HOSPITALS, DIRICHLET, LEAST_FILMS, BITS, MARGIN = 96, 3, 0.3, 16, 16, 0.02
IID, BY_CLASS = "iid", "by class"
Hospitals = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One row of the table: how films are shared out, and who sums how."""

    sharing: str
    way: str  # float, 16 bits, Paillier, central, or the name of the hospital that is alone

    @property
    def name(self) -> str:
        return f"{self.sharing}, {self.way}".replace(" ", "_").replace(",", "")


ALONE = [f"hospital_{number}" for number in range(1, NUM_HOSPITALS + 1)]
CASES = [Case(IID, f"{BITS} bits"), Case(IID, "central"), Case(BY_CLASS, f"{BITS} bits"), Case(IID, "float"), Case(BY_CLASS, "float")]
CASES += [Case(sharing, name) for sharing in (IID, BY_CLASS) for name in ALONE]

ENCRYPTED = Case(IID, "Paillier")


def share_by_dirichlet(rows: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Share films out so that each class has shares of its own at the hospitals, groups whole; anew until each has 16 films.

    Args:
        rows, labels, groups: of each film, (num_films,).

    Source: T.-M. H. Hsu, H. Qi, M. Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification"
        (arXiv 1909.06335), section 3.
    """
    rng = np.random.default_rng(seed)
    while True:
        owner = np.empty(len(rows), int)
        for label in np.unique(labels):
            own = rng.permutation(np.unique(groups[labels == label]))
            ends = np.rint(np.cumsum(rng.dirichlet([DIRICHLET] * NUM_HOSPITALS))[:-1] * len(own)).astype(int)
            for number, part in enumerate(np.split(own, ends)):
                owner[np.isin(groups, part) & (labels == label)] = number
        if np.bincount(owner, minlength=NUM_HOSPITALS).min() >= LEAST_FILMS:
            return {name: rows[owner == number] for number, name in enumerate(ALONE)}


def hospitals_of(prepared: Prepared, case: Case, seed: int) -> Hospitals:
    """Return the rows of each hospital that takes part."""
    rows = prepared.rows("train")
    labels, groups = (prepared.index[column].to_numpy()[rows] for column in ("label", "group"))
    if case.way == "central":
        return {"all": rows}
    if case.sharing == IID:
        shares = {name: np.array(own) for name, own in share_at_random(rows, labels, groups, NUM_HOSPITALS, seed).items()}
    else:
        shares = share_by_dirichlet(rows, labels, groups, seed)
    return {case.way: shares[case.way]} if case.way in shares else shares


@dataclass(frozen=True)
class InTheClear:
    """Sum in the clear: by the integers that hospitals would encrypt, or before they are rounded."""

    films: Mapping[str, int]
    rounded: bool

    def __call__(self, subject: MeanSums, brought: Mapping[str, np.ndarray]) -> np.ndarray:
        if not self.rounded:
            return subject.clear_mean(brought, self.films)
        total = np.sum([subject.integers(name, own, self.films) for name, own in brought.items()], axis=0)
        return subject.total(total, self.films, brought.keys())


def local_of(prepared: Prepared, rows: Hospitals, seed: int, options: argparse.Namespace) -> Local:
    """Return the network that hospitals with these rows train."""
    from ppdl.training.federated.local import Local, begun

    labels = prepared.index["label"].to_numpy()
    training = Training(
        epochs=options.rounds * options.epochs,
        batch_size=32,
        learning_rate=options.learning_rate,
        warmup_epochs=0,
        weight_decay=1e-4,
        label_smoothing=0.05,
        class_weights=None,
        augmentation={"flip": True, "shift": 0.06},
        early_stopping_patience=None,
        num_threads=1,
        devices=1,
    )
    model = MobileNetV2(alpha=0.35, weights=options.weights, dropout=0.2, fine_tune_depth=None, batchnorm_momentum=0.9)
    counts = np.bincount(labels[prepared.rows("train")])
    view = plain_view(np.asarray(prepared.images))
    network = begun(model, view, len(counts), seed)
    return Local(network, training, view, labels, rows, hospitals=list(rows), class_counts=counts, seed=seed)


def train(prepared: Prepared, case: Case, seed: int, options: argparse.Namespace) -> tuple[dict[str, Any], np.ndarray]:
    """Train one row with one seed; return its figures and the logits of the test films."""
    encrypted = case == ENCRYPTED
    labels, start = prepared.index["label"].to_numpy(), time.process_time()
    rows, splits = hospitals_of(prepared, case, seed), {name: prepared.rows(name) for name in ("validation", "test")}
    films = {name: len(own) for name, own in rows.items()}
    counts = np.bincount(labels[prepared.rows("train")])
    local = local_of(prepared, rows, seed, options)
    with tempfile.TemporaryDirectory() as folder:
        private_dir = Path(folder) / "private"
        total: Any = InTheClear(films, case.way == f"{BITS} bits")
        if encrypted:
            roster = roster_of(films, private_dir / "hospitals", Path(folder) / "project")
            insecure = options.key_bits < 2048
            total = EncryptedSums(Board(Path(folder) / "board"), private_dir, roster, options.key_bits, insecure, Path(folder) / "project")
        for name in rows:
            (private_dir / "hospitals" / name).mkdir(parents=True, exist_ok=True)

        def after(number: int, done: Averaged) -> dict[str, Any]:
            row: dict[str, Any] = dict(done.figures)
            for split, of in splits.items():
                logits = local.logits(of, done.weights, done.moments)
                row[f"{split}_accuracy"] = float((logits.argmax(axis=1) == labels[of]).mean())
            print(f"{case.name}-{seed}, round {number + 1}: validation {row['validation_accuracy']:.3f}", flush=True)
            return row | (total.figures() if encrypted else {})

        averaging = Averaging(NUM_HOSPITALS, options.rounds, options.epochs, BITS)
        federation = Federation(case.name, local, films, averaging, total, private_dir / "hospitals", case.name)
        found = federation.run(Path(folder) / "rounds", after)
    classes = {name: np.bincount(labels[own], minlength=len(counts)).tolist() for name, own in rows.items()}
    facts = {"case": vars(case), "seed": seed, "films_by_class": classes, "num_weights": len(found.weights), "encrypted": encrypted}
    facts |= {key: getattr(options, key) for key in ("rounds", "epochs", "learning_rate", "key_bits")}
    facts |= {"core_seconds": time.process_time() - start, "history": found.history}
    return facts, local.logits(splits["test"], found.weights, found.moments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse arguments, train what is missing, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.federated_xrays", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", help="folder with a folder of X-rays for each class")
    parser.add_argument("--classes", nargs="+")
    parser.add_argument("--weights", help="file of MobileNetV2 0.35 without its top")
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=len(CASES), help="the first so many")
    parser.add_argument("--encrypted", action="store_true")
    parser.add_argument("--key-bits", type=int, default=3072)
    parser.add_argument("--lock", type=Path)
    parser.add_argument("--show", action="store_true", help="train nothing")
    options = parser.parse_args(arguments)
    prepared = prepare_xrays(options)
    for seed in range(0 if options.show else options.seeds):
        for case in [*CASES[: options.cases], *([ENCRYPTED] if options.encrypted and not seed else [])]:
            path = options.out / f"{case.name}-{seed}.json"
            if not path.exists():
                with FileLock(options.lock) if options.lock else nullcontext():
                    facts, logits = train(prepared, case, seed, options)
                predictions_of(prepared, prepared.rows("test"), logits).save(path.with_suffix(".npz"))
                with replacing(path) as unfinished:
                    unfinished.write_text(json.dumps(facts, indent=1) + "\n")
                print(f"{path.stem}: test {facts['history'][-1]['test_accuracy']:.3f}, {facts['core_seconds']:.0f} core s", flush=True)
    rows = [*summary(options.out, prepared), border_only(prepared)]
    (options.out / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)


def prepare_xrays(options: argparse.Namespace) -> Prepared:
    """Prepare the X-rays as `split` does, once."""
    folder = options.out / "prepared"
    if not (folder / "meta.json").exists():
        source = Folder(
            root=options.root, classes=options.classes and tuple(options.classes), on_bad_image="raise", patient_pattern=None, patients=None
        )
        source.write_raw(options.out / "raw")
        split = Split(test_fraction=0.2, validation_fraction=0.1, num_folds=None, fold=None, near_duplicate_bits=26, seed=20220314)
        prepare(options.out / "raw", folder, options.out / "data", split=split, prepared_px=PX, on_bad_image="raise", params={})
    return load_prepared(folder)


def summary(out: Path, prepared: Prepared) -> Iterator[dict[str, Any]]:
    """Yield a row for each case: accuracy of all seeds with its interval, and how much it is above or below central training."""
    tested = {case: _seeds(out, case) for case in [*CASES, ENCRYPTED]}
    central = tested[Case(IID, "central")]
    for sharing in (IID, BY_CLASS):
        for way in ("central", "float", f"{BITS} bits", "Paillier", "alone"):
            cases = [Case(sharing, name) for name in ALONE] if way == "alone" else [Case(sharing if way != "central" else IID, way)]
            seeds = min(len(tested.get(case, ())) for case in cases)
            if not seeds or (way == "central" and sharing != IID):
                continue
            found = [_pooled(tested[case][:seeds]) for case in cases]
            row: dict[str, Any] = {"films": sharing if way != "central" else "all", "way": way, "seeds": seeds, "hospitals": []}
            for predictions in found:
                figures = evaluate(predictions)
                entry = {key: figures[key] for key in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "auroc")}
                if way != "central" and len(central) >= seeds:
                    pair = compare(_pooled(central[:seeds]), predictions, margin=MARGIN, names=("central", way))
                    entry |= {"minus_central": pair.difference, "low": pair.low, "high": pair.high}
                row["hospitals"].append(entry)
            row["accuracy"] = float(np.mean([entry["accuracy"] for entry in row["hospitals"]]))
            yield row | {"test_films": len(prepared.rows("test"))}


def border_only(prepared: Prepared) -> dict[str, Any]:
    """Return the row of a probe that sees no lung: class goes with source in such collections."""
    labels, rows = prepared.index["label"].to_numpy(), prepared.rows("test")
    logits = border_baseline(prepared.images, labels, prepared.rows("train"), rows)
    figures = evaluate(predictions_of(prepared, rows, logits))
    entry = {key: figures[key] for key in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "auroc")}
    return {"films": "all", "way": "border only", "seeds": 1, "hospitals": [entry], "accuracy": entry["accuracy"], "test_films": len(rows)}


def _seeds(out: Path, case: Case) -> list[Predictions]:
    paths = sorted(out.glob(f"{case.name}-*.npz"))
    return [Predictions.load(path) for path in paths]


def _pooled(seeds: Sequence[Predictions]) -> Predictions:
    return seeds[0] if len(seeds) == 1 else pool_seeds([[one] for one in seeds], image_ids=seeds[0].image_ids)


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table; of hospitals alone the interval of each."""
    table = Table(title="accuracy on held-out films, %", title_justify="left")
    for name in ("films", "way", "seeds", "accuracy [95 %]", "minus central, points [95 %]"):
        table.add_column(name)
    for row in rows:
        ends = "; ".join(
            f"{100 * e['accuracy']:.1f} [{100 * e['accuracy_low']:.1f}, {100 * e['accuracy_high']:.1f}]" for e in row["hospitals"]
        )
        minus = "; ".join(
            f"{100 * e['minus_central']:+.1f} [{100 * e['low']:+.1f}, {100 * e['high']:+.1f}]" for e in row["hospitals"] if "low" in e
        )
        table.add_row(row["films"], row["way"], str(row["seeds"]), ends, minus)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
