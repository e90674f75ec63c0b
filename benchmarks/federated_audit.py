"""What one hospital's update tells of its films, against what the sum of all updates tells, in federated averaging on real X-rays.

    python -m benchmarks.federated_audit out --root /data/xrays --classes COVID Normal "Viral Pneumonia" --weights FILE   # 5 core minutes
    python -m benchmarks.federated_audit out --show           # the table of what is there

Films, hospitals, network and rates are those of `benchmarks.federated_xrays`; updates are averaged in floating point, one seed. The key
holder with the server or with any hospital has one hospital's update; every party has the sum. What is kept of rounds 1, 2, 7 and 14 lies
in OUT, and what is there is not trained again. Attackers know the weights of the round, and candidates with their labels: the 840 training
films and the 240 test films. BatchNorm has the statistics of the candidates, under the weights that are asked.

- **Class mix** of a hospital, by class alone: from the update of the last layer, of its biases, and of its kernel averaged over features.
  The sum has one mix, that of all films, which is opened before the first round. Source: A. Wainakh et al., "User-Level Label Leakage from
  Gradients in Federated Learning", PoPETs 2022(2), here with steps of AdamW in the place of a gradient, and as an estimate of shares.
- **Hospital** of a training film: whose update lowers its loss more than the others' do. Members are a hospital's films, others those of
  the other two.
- **Membership**: members are training films, others the test films; by how much the update lowers the loss (M. Nasr et al.,
  "Comprehensive Privacy Analysis of Deep Learning", IEEE S&P 2019, for updates as what is attacked), and by the loss under it (S. Yeom et
  al., "Privacy Risk in Machine Learning", CSF 2018).
- **Control**, which must succeed: the features that enter the last layer, from the raw gradient of one film: that of the kernel divided
  by that of the bias (L. T. Phong et al., IEEE TIFS 13(5), 2018). A hospital sends steps of AdamW and not this gradient.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.table import Table
from scipy.special import log_softmax
from scipy.stats import binomtest, mannwhitneyu

from benchmarks.federated_xrays import BY_CLASS, IID, NUM_HOSPITALS, Case, InTheClear, hospitals_of, local_of, prepare_xrays
from ppdl.audit.pool.separation import auc_interval, effective_number, smallest_auc
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.experiment.federation import Averaged, Federation
from ppdl.pooling.sharing import Averaging
from ppdl.records.atomic import replacing

ROUNDS, SEED, CONTROLS, NUM_FEATURES = (1, 2, 7, 14), 0, 20, 1280
ALL = "all four"
CASES = [Case(IID, "float"), Case(BY_CLASS, "float")]
Z, FOUND = 1.959964, 2.801585  # of a two-sided 95 % interval; and of one that is above its null 4 times of 5
Arrays = Mapping[str, np.ndarray]


def train(prepared: Prepared, case: Case, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Train a federation; return the weights before each kept round, and the update of each hospital in it."""
    rows, kept, brought = hospitals_of(prepared, case, SEED), dict[str, np.ndarray](), dict[str, np.ndarray]()
    films, local = {name: len(own) for name, own in rows.items()}, local_of(prepared, rows, SEED, options)
    clear, before = InTheClear(films, rounded=False), [local.weights]

    def total(subject: Any, vectors: Mapping[str, Any]) -> Any:
        if subject.what.startswith("update"):
            brought.update(vectors)
        return clear(subject, vectors)

    def after(number: int, done: Averaged) -> dict[str, Any]:
        if number + 1 in ROUNDS:
            kept[f"{number + 1} weights"] = before[-1]
            kept.update({f"{number + 1} {name}": update.astype(np.float32) for name, update in brought.items()})
        before.append(done.weights)
        return {}

    with tempfile.TemporaryDirectory() as folder:
        for name in rows:
            (Path(folder) / "hospitals" / name).mkdir(parents=True)
        averaging = Averaging(NUM_HOSPITALS, options.rounds, options.epochs, 16)
        args = case.name, local, films, averaging, total, Path(folder) / "hospitals", case.name
        Federation(*args).run(Path(folder) / "rounds", after)
    return kept


def ask(prepared: Prepared, case: Case, kept: Arrays, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return the loss of each candidate, (num_candidates,), before each round, under each hospital's update, and under the sum's."""
    rows = hospitals_of(prepared, case, SEED)
    candidates, films = np.concatenate([prepared.rows("train"), prepared.rows("test")]), {name: len(own) for name, own in rows.items()}
    labels, local = prepared.index["label"].to_numpy()[candidates], local_of(prepared, {"candidates": candidates}, SEED, options)

    def loss(weights: np.ndarray) -> np.ndarray:
        logits = local.logits(candidates, weights, local.moments("candidates", weights))
        return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]

    found = {}
    for number in ROUNDS:
        weights, updates = kept[f"{number} weights"], {name: kept[f"{number} {name}"] for name in rows}
        mean = sum(films[name] * update for name, update in updates.items()) / sum(films.values())
        moves = {"before": np.zeros_like(weights), "sum": mean, **updates}
        found.update({f"{number} {what}": loss(weights + move) for what, move in moves.items()})
    return found


def control(prepared: Prepared, kept: Arrays, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return by round the relative errors (num_films,) of features from one film's gradient, the network training."""
    import keras
    import tensorflow as tf

    rows, labels = prepared.rows("train")[:: len(prepared.rows("train")) // CONTROLS], prepared.index["label"].to_numpy()
    local, found = local_of(prepared, {"one": rows}, SEED, options), {}
    network, head = local.network, local.network.layers[-1]
    inner = keras.Model(network.input, head.input)
    for number in (ROUNDS[0], ROUNDS[-1]):
        local.set(kept[f"{number} weights"], local.moments_before)
        errors = []
        for row in rows:
            with tf.GradientTape() as tape:
                features = inner(local.view.array[row : row + 1], training=True)
                loss = network.loss(np.eye(head.units, dtype=np.float32)[labels[row : row + 1]], head(features))
            kernel, bias = (np.asarray(g) for g in tape.gradient(loss, [head.kernel.value, head.bias.value]))
            errors.append(relative_error(features_of(kernel, bias), np.asarray(features)[0]))
        found[str(number)] = np.array(errors)
    return found


def features_of(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return what entered a dense layer, (num_features,), from the gradients of its kernel (num_features, num_units) and its bias."""
    unit = int(np.abs(bias).argmax())
    return kernel[:, unit] / bias[unit]


def relative_error(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


def told(scores: np.ndarray, member: np.ndarray, strata: np.ndarray, groups: np.ndarray, uses: int = 1) -> dict[str, Any]:
    """Return how much larger a score is for members than for others of the same stratum, as `separation` does it for one.

    The area is the mean over strata by pairs; the interval that of two samples of such a size that the variance at 0.5 is the same.

    Args:
        scores: float (num,). member: bool (num,). strata, groups: int (num,). uses: strata that one film is in, at most; the variance is
            multiplied by it, its bound however areas of strata hang together.
    """
    areas, pairs, variances = [], [], []
    for stratum in np.unique(strata):
        inside, outside = (strata == stratum) & member, (strata == stratum) & ~member
        if inside.any() and outside.any():
            m, n = effective_number(groups[inside]), effective_number(groups[outside])
            pairs.append(float(inside.sum() * outside.sum()))
            areas.append(mannwhitneyu(scores[inside], scores[outside], method="asymptotic").statistic / pairs[-1])
            variances.append((m + n + 1) / (12 * m * n))
    weights = np.array(pairs) / sum(pairs)
    area, variance = float(weights @ areas), uses * float(weights**2 @ variances)
    size = (1 + np.sqrt(1 + 12 * variance)) / (12 * variance)  # of members and of others: (2 size + 1) / (12 size^2) is the variance
    low, high = auc_interval(area, size, size)
    return {"value": area, "low": low, "high": high, "found": smallest_auc(size, size)[1], "null": 0.5}


def hits(guess: np.ndarray, owner: np.ndarray, classes: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Return the share of films whose hospital is guessed, beside that of the same guesses dealt out at random within classes."""
    size, chance = effective_number(groups), 0.0
    for label in np.unique(classes):
        inside = classes == label
        chance += inside.mean() * sum((guess[inside] == one).mean() * (owner[inside] == one).mean() for one in np.unique(owner))
    share = float((guess == owner).mean())
    ends = binomtest(round(share * size), round(size)).proportion_ci(method="wilson")
    found = chance + FOUND * np.sqrt(chance * (1 - chance) / size)
    return {"value": share, "low": float(ends.low), "high": float(ends.high), "found": float(found), "null": float(chance)}


def related(estimates: np.ndarray, shares: np.ndarray, free: int) -> dict[str, Any]:
    """Return Pearson's r of estimates and shares, both (num_hospitals, num_classes), with Fisher's interval for `free` free shares."""
    r, error = float(np.corrcoef(estimates.ravel(), shares.ravel())[0, 1]), 1 / np.sqrt(free - 2)
    low, high = np.tanh(np.arctanh(r) + Z * error * np.array([-1, 1]))
    return {"value": r, "low": float(low), "high": float(high), "found": float(np.tanh(FOUND * error)), "null": 0.0}


def estimates(updates: np.ndarray, films: np.ndarray) -> dict[str, np.ndarray]:
    """Return two estimates of class shares, each (num_hospitals, num_classes) and known but for one factor and offset.

    Args:
        updates: flat, the last layer last, kernel (NUM_FEATURES, num_classes) then bias: (num_hospitals, num_weights).
        films: of each hospital, (num_hospitals, num_classes): their number says how many steps moved the weights.
    """
    num_classes, steps = films.shape[1], np.ceil(films.sum(axis=1) / 32)
    kernel = updates[:, -(NUM_FEATURES + 1) * num_classes : -num_classes].reshape(len(updates), NUM_FEATURES, num_classes).mean(axis=1)
    found = {"bias": updates[:, -num_classes:], "kernel": kernel}
    return {name: (one - one.mean(axis=1, keepdims=True)) / steps[:, None] for name, one in found.items()}


def label_mix(updates: np.ndarray, films: np.ndarray) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield attack, surface and figures, see `estimates`."""
    # Shares of a hospital add up to 1, and films of a class to those of all, which are opened: so few of them are free.
    shares, free = films / films.sum(axis=1, keepdims=True), (len(films) - 1) * (films.shape[1] - 1)
    for layer, found in estimates(updates, films).items():
        yield f"class mix, {layer}", "single", related(found, shares, free)


def film_attacks(losses: Arrays, names: Sequence[str], owner: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Iterator[Any]:
    """Yield attack, surface and figures of one round.

    Args:
        losses: of candidates, `before`, under the `sum` and under each of the names.
        owner: number of the hospital that has a candidate, -1 for those that none has. labels, groups: of candidates.
    """
    lower = np.stack([losses["before"] - losses[name] for name in names], axis=1)
    has, num = owner >= 0, len(names)
    by_class = lower.copy()
    for label in np.unique(labels):
        by_class[labels == label] -= lower[has & (labels == label)].mean(axis=0)
    hospital = np.arange(num)
    for within, scores, strata in (("", lower - lower[has].mean(axis=0), 0 * labels), (" within class", by_class, labels)):
        mine = scores[has]
        beyond = mine - (mine.sum(axis=1, keepdims=True) - mine) / (num - 1)
        where = hospital * (labels.max() + 1) + strata[has][:, None]
        flat = beyond.ravel(), (owner[has][:, None] == hospital).ravel(), where.ravel(), groups[has].repeat(num)
        yield f"hospital{within}, AUC", "single", told(*flat, uses=num)
        yield f"hospital{within}, top 1", "single", hits(beyond.argmax(axis=1), owner[has], strata[has], groups[has])
    for attack, score in (("change of loss", lambda name: losses["before"] - losses[name]), ("loss", lambda name: -losses[name])):
        rows = [np.flatnonzero((owner == number) | ~has) for number in hospital]
        strata = np.concatenate([labels[own] + number * (labels.max() + 1) for number, own in enumerate(rows)])
        scores, every = np.concatenate([score(name)[own] for name, own in zip(names, rows, strict=True)]), np.concatenate(rows)
        yield f"membership, {attack}", "single", told(scores, has[every], strata, groups[every], uses=num)
        yield f"membership, {attack}", "sum", told(score("sum"), has, labels, groups)


def together(rounds: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """Return losses whose changes are the sums of those of several rounds, each divided by its standard deviation over candidates."""
    changes = [{name: before["before"] - after for name, after in before.items()} for before in rounds]
    return {name: -sum(change[name] / (change[name].std() or 1.0) for change in changes) for name in rounds[0]}


def figures(prepared: Prepared, out: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each attack, surface, federation and round."""
    index = prepared.index
    labels, groups = index["label"].to_numpy(), np.unique(index["group"].to_numpy(), return_inverse=True)[1]
    candidates = np.concatenate([prepared.rows("train"), prepared.rows("test")])
    for case in CASES:
        kept, losses = np.load(out / f"audit_{case.name}.npz"), np.load(out / f"audit_{case.name}_losses.npz")
        rows, owner = hospitals_of(prepared, case, SEED), np.full(len(labels), -1)
        for number, own in enumerate(rows.values()):
            owner[own] = number
        films = np.array([np.bincount(labels[own], minlength=labels.max() + 1) for own in rows.values()])
        by_round = [{what: losses[f"{number} {what}"] for what in ("before", "sum", *rows)} for number in ROUNDS]
        of = owner[candidates], labels[candidates], groups[candidates]
        for attack, surface, row in film_attacks(together(by_round), list(rows), *of):
            if attack != "membership, loss":  # losses are of one round
                yield {"federation": case.sharing, "round": ALL, "attack": attack, "surface": surface, **row}
        for number, found in zip(ROUNDS, by_round, strict=True):
            said = {"federation": case.sharing, "round": number}
            attacks = list(film_attacks(found, list(rows), *of))
            if case.sharing == BY_CLASS:
                attacks += label_mix(np.stack([kept[f"{number} {name}"] for name in rows]), films)
            yield from ({**said, "attack": attack, "surface": surface, **row} for attack, surface, row in attacks)


def show(rows: Sequence[Mapping[str, Any]], errors: Arrays) -> None:
    """Print a row for each attack and surface, a column for each round, and the control."""
    table = Table(title="value [95 %] (null; found 4 times of 5)", title_justify="left")
    for name in ("federation", "attack", "update", *(f"round {number}" for number in ROUNDS)):
        table.add_column(name)
    cells: dict[tuple[str, str, str], dict[int | str, str]] = {}
    for row in rows:
        text = f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}] ({row['null']:.2f}; {row['found']:.2f})"
        cells.setdefault((row["federation"], row["attack"], row["surface"]), {})[row["round"]] = text
    for key, by_round in cells.items():
        table.add_row(*key, *(by_round.get(number, "") for number in (*ROUNDS, ALL)))
    Console(width=210).print(table)
    for number, found in errors.items():
        print(
            f"control, round {number}: relative error of {len(found)} films' features, median {np.median(found):.1e}, max {found.max():.1e}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse arguments, train what is missing, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.federated_audit", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", help="folder with a folder of X-rays for each class")
    parser.add_argument("--classes", nargs="+")
    parser.add_argument("--weights", help="file of MobileNetV2 0.35 without its top")
    parser.add_argument("--lock", type=Path)
    parser.add_argument("--show", action="store_true", help="train nothing")
    options = parser.parse_args(arguments)
    options.rounds, options.epochs, options.learning_rate = ROUNDS[-1], 1, 1e-3
    prepared = prepare_xrays(options)

    def made(name: str, make: Callable[[], Arrays]) -> Arrays:
        path = options.out / f"audit_{name}.npz"
        if not path.exists() and not options.show:
            with FileLock(options.lock) if options.lock else nullcontext():
                arrays = make()
            with replacing(path) as unfinished:
                np.savez(unfinished, **arrays)
        return dict(np.load(path))

    for case in CASES:
        kept = made(case.name, lambda case=case: train(prepared, case, options))
        made(f"{case.name}_losses", lambda case=case, kept=kept: ask(prepared, case, kept, options))
    errors = made("control", lambda: control(prepared, kept, options))
    rows = list(figures(prepared, options.out))
    facts = {"figures": rows, "control": {number: found.tolist() for number, found in errors.items()}}
    (options.out / "audit.json").write_text(json.dumps(facts, indent=1) + "\n")
    show(rows, errors)


if __name__ == "__main__":
    main()
