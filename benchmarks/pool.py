"""Pool the films of three hospitals: this package, phe, CKKS and pairwise masks: `python -m benchmarks.pool [--bits 2048 3072]`.

User CPU of one process with one thread, in turns, medians of `--repeats`; what took more than 10 s is not repeated. 1,200 random films of
12-bit features and 3 classes, shared by three hospitals. Here the parties are those of a real run, files included: a hospital commits
(sums, packing, encryption, signature, ledger) and releases; the server adds; each hospital adds again and signs; the key holder decrypts,
checks and solves. The others encrypt or mask the same sums, and have the same sums, checks and solver counted in; they sign nothing. phe
encrypts each sum as a number, on `--phe-sums` of them, and is scaled up. CKKS (TenSEAL on Microsoft SEAL, where it is installed) and the
masks are in pool_rivals.py. Every total is compared with that in the clear before its times count. How cost grows is fitted over the
numbers of features, and over 1, 4 and 16 times as many films at the middle one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.crypto_cases import user_seconds
from benchmarks.pool_rivals import run_ckks, run_masks, run_phe
from ppdl.crypto.arithmetic.engine import engine
from ppdl.crypto.arithmetic.paillier import decrypt_batch
from ppdl.crypto.keys.keyfile import save_public
from ppdl.crypto.keys.keypair import PrivateKey, generate_keypair
from ppdl.crypto.keys.keystore import save_private
from ppdl.crypto.keys.purpose import FEDERATION
from ppdl.pooling.board import Board
from ppdl.pooling.hospital import Hospital
from ppdl.pooling.opening import open_total, pin_terms
from ppdl.pooling.ridge import fit_ridge
from ppdl.pooling.server import add_contributions
from ppdl.pooling.subjects.head import Films, HeadSums
from ppdl.pooling.sums import Sums, check_total, sums_of
from ppdl.pooling.terms import Member, Terms
from ppdl.private_head.head import load_head

NUM_FILMS, CLASSES, FEATURE_BITS, STRENGTHS = 1200, ("a", "b", "c"), 12, (0.001, 0.01, 0.1, 1.0)
HOSPITALS = ("anna", "berta", "clara")
STEPS = {"hospital": "hospital: sums to signature", "add": "server adds", "check": "hospital checks, signs", "open": "opening: to the head"}
_LONG_S = 10.0  # a step that took longer is not timed again
_CHECKED_ROWS = 16  # of the sum's ciphertexts, which are compared with the total in the clear
Spent = dict[str, float]


@dataclass(frozen=True)
class Case:
    """Films of three hospitals, as many at each to within one: integers (num_films, num_features), labels (num_films,)."""

    num_films: int
    num_features: int

    @cached_property
    def films(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(self.num_features)
        labels = np.arange(self.num_films) % len(CLASSES)
        features = np.clip(rng.normal(800 + 500 * labels[:, None], 600, (self.num_films, self.num_features)), 0, 4095).astype(np.int64)
        parts = [slice(number, None, len(HOSPITALS)) for number in range(len(HOSPITALS))]
        order = rng.permutation(self.num_films)
        return {name: (features[order[part]], labels[order[part]]) for name, part in zip(HOSPITALS, parts, strict=True)}

    def sums(self, name: str) -> Sums:
        return sums_of(*self.films[name], num_classes=len(CLASSES), feature_bits=FEATURE_BITS)

    @cached_property
    def shares(self) -> list[np.ndarray]:
        """The sums of each hospital: int64 (num_sums,)."""
        return [self.sums(name).flat() for name in HOSPITALS]

    @cached_property
    def total(self) -> np.ndarray:
        return np.sum(self.shares, axis=0)

    def solve(self) -> Any:
        """Check and solve the total in the clear: what every way does after opening."""
        total = Sums.from_flat(self.total, num_classes=len(CLASSES), num_features=self.num_features, feature_bits=FEATURE_BITS)
        check_total(total, self.num_films)
        return fit_ridge(total, STRENGTHS, class_names=CLASSES, backbone={})[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse arguments, measure, print tables or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pool", description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=int, nargs="+", default=[2048, 3072])
    parser.add_argument("--features", type=int, nargs="+", default=[128, 384, 1152], help="at least three")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--phe-sums", type=int, default=16, help="sums that phe encrypts, adds and decrypts")
    parser.add_argument("--smoke", action="store_true", help="48 films, 3 to 6 features, 512 bits, once: what the tests run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.bits, options.features, options.repeats, options.phe_sums = [512], [3, 4, 6], 1, 4
    results = [measure(make_key(bits), 48 if options.smoke else NUM_FILMS, options) for bits in options.bits]
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for result in results:
        show(result)


def make_key(key_bits: int) -> PrivateKey:
    return generate_keypair(key_bits, purpose=FEDERATION, allow_insecure_key=key_bits < 2048)


def measure(key: PrivateKey, num_films: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds and MB of each way at each number of features, the ratios, and how cost grows."""
    features = sorted(options.features)
    cases = [Case(num_films, number) for number in features]
    more_films = [Case(num_films * times, features[len(features) // 2]) for times in (4, 16)]
    with _ckks_process() as ckks:
        ways: dict[str, Callable[[Case], Spent]] = {
            "own": lambda case: pooled(case, key) | _sums_and_solve(case),
            "phe": lambda case: with_the_rest(case, run_phe(key, case.shares, case.total, options.phe_sums)),
            **({"ckks": lambda case: with_the_rest(case, ckks(case.shares, case.total))} if ckks else {}),
            "masks": lambda case: with_the_rest(case, run_masks(case.shares, case.total)),
        }
        turns = [(case, way) for case in cases for way in ways] + [(case, "own") for case in more_films]
        found = in_turns({turn: (lambda turn=turn: ways[turn[1]](turn[0])) for turn in turns}, options.repeats)
    rows = [{"num_features": case.num_features} | {way: found[case, way] for way in ways} for case in cases]
    for row in rows:
        row["ratios"] = ratios(row)
    return {
        "key_bits": key.public.key_bits,
        "engine": engine(),
        "num_films": num_films,
        "by_features": rows,
        "exponents_in_features": exponents(features, [found[case, "own"] for case in cases]),
        "exponents_in_films": exponents(
            [num_films * times for times in (1, 4, 16)], [found[case, "own"] for case in (cases[len(cases) // 2], *more_films)]
        ),
    }


def exponents(sizes: Sequence[int], spent: Sequence[Spent]) -> Spent:
    return {step: exponent(sizes, [each[step] for each in spent]) for step in spent[0]}


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return k of the curve seconds = c sizes^k that is nearest in logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def in_turns(runs: Mapping[Any, Callable[[], Spent]], repeats: int) -> dict[Any, Spent]:
    """Run each in turn, `repeats` times over, with one thread, long ones once; return the medians of what each spent."""
    spent: dict[Any, list[Spent]] = defaultdict(list)
    with threadpool_limits(1):
        pooled(Case(12, 2), generate_keypair(512, purpose=FEDERATION, allow_insecure_key=True))  # what is loaded at first use
        for turn in range(repeats):
            for name, run in runs.items():
                if turn == 0 or max(spent[name][0].values()) < _LONG_S:
                    spent[name].append(run())
    return {name: {step: statistics.median(each[step] for each in found) for step in found[0]} for name, found in spent.items()}


def timed(run: Callable[[], object]) -> float:
    start = user_seconds()
    run()
    return max(user_seconds() - start, 1e-6)


def pooled(case: Case, key: PrivateKey) -> Spent:
    """Do a whole run party by party; return user CPU seconds of each step, a hospital's being the mean, and MB that each hospital sends."""
    with tempfile.TemporaryDirectory(prefix="ppdl-bench-") as name:
        root, own_keys = Path(name), {hospital: Ed25519PrivateKey.generate() for hospital in HOSPITALS}
        board, holder = Board(root / "board"), root / "holder"
        save_public(board.folder / "public.json", key.public)
        save_private(holder, key)
        terms = terms_of(case, key, own_keys)
        pin_terms(holder, terms)
        hospitals = {hospital: Hospital(hospital, terms, board, root / hospital, own_keys[hospital]) for hospital in HOSPITALS}
        digests = {hospital: [hashlib.sha256(row).digest() for row in case.films[hospital][0]] for hospital in HOSPITALS}
        commit = [timed(lambda name=name, own=own: own.commit(Films(*case.films[name], digests[name]))) for name, own in hospitals.items()]
        release = [timed(own.release) for own in hospitals.values()]
        add = timed(lambda: add_contributions(board, terms))
        check = [timed(own.countersign) for own in hospitals.values()]
        total = np.load(board.sum)
        rows = np.linspace(0, len(total) - 1, min(_CHECKED_ROWS, len(total))).astype(int)
        if decrypt_batch(key, total[rows]) != [terms.packing.pack(case.total)[row] for row in rows]:
            raise AssertionError("the sum of the hospitals' ciphertexts is not the total in the clear")
        heads: list[Any] = []
        opened = timed(lambda: heads.append(load_head(open_total(board, terms, holder, HeadSums.of(terms.subject).solver({})))))
        if not np.array_equal(heads[0].weights, case.solve().weights):
            raise AssertionError("the opened head is not that of the total in the clear")
        sent = sum((board.folder / f).stat().st_size for f in (f"ciphertexts/{HOSPITALS[0]}.npy", f"commitments/{HOSPITALS[0]}.json"))
    hospital = statistics.mean(commit) + statistics.mean(release)
    return {"hospital": hospital, "add": add, "check": statistics.mean(check), "open": opened, "mb": sent / 1e6}


def terms_of(case: Case, key: PrivateKey, own_keys: Mapping[str, Ed25519PrivateKey]) -> Terms:
    roster = {name: Member(own.public_key().public_bytes_raw().hex(), len(case.films[name][1])) for name, own in own_keys.items()}
    subject = HeadSums(
        class_names=CLASSES,
        num_features=case.num_features,
        feature_bits=FEATURE_BITS,
        backbone_sha256="0" * 64,
        strengths=STRENGTHS,
        accept_membership=True,  # 1,200 films are about one a feature: these are nobody's
    )
    return Terms(key.public.fingerprint, key.public.key_bits, subject, roster)


def with_the_rest(case: Case, rival: Spent) -> Spent:
    """Add to a rival's seconds what it needs besides: a hospital's sums, and the checks and the solver at the end."""
    rest = _sums_and_solve(case)
    return rival | {"hospital": rival["hospital"] + rest["sums"], "open": rival["open"] + rest["solve"]}


def _sums_and_solve(case: Case) -> Spent:
    return {"sums": timed(lambda: case.sums(HOSPITALS[0])), "solve": timed(case.solve)}


def ratios(row: Mapping[str, Any]) -> Spent:
    """Return how many times this package's cost the other ways cost, below 1 where they are cheaper."""
    rivals, steps = [name for name in ("phe", "ckks", "masks") if name in row], ("hospital", "add", "open", "mb")
    return {f"{rival}_{step}_over_own": row[rival][step] / row["own"][step] for rival in rivals for step in steps}


@contextmanager
def _ckks_process() -> Iterator[Callable[[list[np.ndarray], np.ndarray], Spent] | None]:
    """Give what runs CKKS in a process of its own, None where TenSEAL is not installed: it crashes where TensorFlow is loaded."""
    if not find_spec("tenseal"):
        yield None
        return
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        yield lambda shares, total: executor.submit(run_ckks, shares, total).result()


def show(result: Mapping[str, Any]) -> None:
    """Print a table for one key length."""
    title = f"{result['key_bits']} bits, engine {result['engine']}: {result['num_films']:,} films, {len(HOSPITALS)} hospitals; core seconds"
    table = Table(title=title, title_justify="left")
    for name in ("features", "way", *STEPS.values(), "a hospital sends, MB"):
        table.add_column(name, justify="left" if name == "way" else "right")
    for row in result["by_features"]:
        for way in ("own", "phe", "ckks", "masks"):
            if way in row:
                cells = [f"{row[way][step]:,.3g}" if step in row[way] else "" for step in (*STEPS, "mb")]
                table.add_row(f"{row['num_features']:,}", "phe, scaled up" if way == "phe" else way, *cells)
    console = Console(width=140)
    console.print(table)
    for row in result["by_features"]:
        for name, value in row["ratios"].items():
            console.print(f"{row['num_features']:,} features: {name} {value:,.3g}")
        if "ckks" in row:
            console.print(f"CKKS: largest error {row['ckks']['error']:.2g} of a sum before it was rounded")
    for over in ("features", "films"):
        grown = ", ".join(f"{step} {value:.2f}" for step, value in result[f"exponents_in_{over}"].items())
        console.print(f"exponents in {over}: {grown}")


if __name__ == "__main__":
    main()
