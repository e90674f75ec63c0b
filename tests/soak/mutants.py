"""Mutation testing: change the cryptography and the statistics in one place at a time, and count how many changes some test notices.

python -m tests.soak.mutants --num 600 --out tests/soak/results/mutants.json    # about an hour on one core

A uniform sample without replacement of all mutants of `FILES` (tests/soak/mutations.py) is drawn with a seed. Each is written into a
copy of the project, and the tests that ran the changed statement (by coverage; the function or the file where that is empty) are run
until one fails, fastest first, up to `BUDGET_S` of them (tests/soak/judge.py). Killed is a mutant with which a test fails, the project
cannot be imported, a process dies, or a test takes more than five times its time. All others survive, also those that no test reaches.

Not counted are, by rule, mutants within the exception of a `raise` statement or within a call of the log or of a progress bar: they
change the wording of a message, which no test should pin. mutmut makes none in annotations, decorators and docstrings. Not counted are
also the mutants that tests/soak/equivalent_mutants.json lists: they cannot be told from the original, each for the reason given there.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import json
import os
import random
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from ppdl.config import PROJECT
from tests.soak import judge
from tests.soak.mutations import Mutant, mutants_of
from tests.test_pipeline import copy_of_the_project

FILES = ("ppdl/crypto/**/*.py", "ppdl/evaluation/measures/statistics.py")
EQUIVALENT = Path(__file__).parent / "equivalent_mutants.json"
BUDGET_S = 60
SEED = 20220314
LEFT = ("survived", "unreached")
OUTCOMES = ("killed", "timeout", *LEFT, "equivalent")


def draw(root: Path, num: int, seed: int) -> tuple[list[Mutant], dict[str, int]]:
    """Return a sample of all mutants that count, and how many there are."""
    files = sorted(str(path.relative_to(root)) for pattern in FILES for path in root.glob(pattern))
    made = [mutant for file in files for mutant in mutants_of(root, file)]
    counted = [mutant for mutant in made if not mutant.message]
    sizes = {"num_mutants": len(made), "num_messages": len(made) - len(counted)}
    return random.Random(seed).sample(counted, min(num, len(counted))), sizes


def tests_for(mutant: Mutant, measured: dict[str, Any]) -> dict[str, float]:
    """Choose the tests of a mutant and their order: file by file, the file with the least to do first, and within it the fastest."""
    ran, seconds = measured["ran"].get(mutant.file, {}), measured["seconds"]
    # Outside of functions a statement runs with the import, for all tests; only lambdas within it run for some.
    for lines in (mutant.lines, mutant.function_lines, ran) if mutant.function else (ran,):
        if found := {name for line in lines for name in ran.get(str(line), ())} & seconds.keys():
            break
    fastest = sorted(found, key=lambda name: (seconds[name], name))
    chosen = [name for name, spent in zip(fastest, accumulate(seconds[name] for name in fastest), strict=True) if spent <= BUDGET_S]
    files: dict[str, list[str]] = defaultdict(list)
    for name in chosen:
        files[name.partition("::")[0]].append(name)
    in_order = sorted(files.values(), key=lambda names: sum(seconds[name] for name in names))
    return {name: seconds[name] for names in in_order for name in names}


def kill(mutant: Mutant, index: int, measured: dict[str, Any], project: Path, scratch: Path) -> str:
    """Run the tests of a mutant in the copy, and say what became of it: killed, timeout, survived, or unreached by any test."""
    tests, path = tests_for(mutant, measured), project / mutant.file
    if not tests:
        return "unreached"
    whole, times = path.read_text(), path.stat()
    try:
        path.write_text(mutant.source())
        os.utime(path, (times.st_atime, times.st_mtime + 60 * (index + 1)))  # no compiled file of another mutant is taken for it
        ending = judge.run(tests, scratch)
    finally:
        path.write_text(whole)
        os.utime(path, (times.st_atime, times.st_mtime))
    if ending.code == judge.BROKEN:
        raise SystemExit(f"no tests could be run: {(scratch / 'log.txt').read_text()[-2000:]}")
    if ending.code in (0, 5):  # 5: the mutant gave its tests other names, so that none of the chosen ones was there
        return "survived"
    return "timeout" if ending.code in (-9, -27) else "killed"


def digest(root: Path) -> str:
    """Return a digest of what is mutated and of the tests that judge, which decides whether an interrupted run may go on."""
    tests = [
        path for name in judge.PATHS for path in ((root / "tests" / name).rglob("*.py") if "." not in name else [root / "tests" / name])
    ]
    paths = sorted([*tests, root / EQUIVALENT.relative_to(PROJECT), *(path for pattern in FILES for path in root.glob(pattern))])
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()


@dataclass
class Record:
    """What became of the mutants of a sample, in its order.

    Attributes:
        settings: by which sample, sources and tests are known again.
        outcomes: one of `OUTCOMES` each.
        left: the mutants that survived, with the outcome.
    """

    settings: dict[str, Any]
    outcomes: list[str] = field(default_factory=list)
    left: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def resume(cls, settings: dict[str, Any], out: Path | None) -> Record:
        """Take over what an interrupted run recorded."""
        found = json.loads(out.read_text()) if out and out.exists() else {}
        if not found.items() >= settings.items():
            return cls(settings)
        return cls(settings, [OUTCOMES[int(digit)] for digit in found["done"]], found["left"])

    def add(self, outcome: str, name: dict[str, str]) -> None:
        """Note one more mutant."""
        self.outcomes.append(outcome)
        if outcome in LEFT:
            self.left.append({"outcome": outcome} | name)

    def figures(self, sample: list[Mutant]) -> dict[str, Any]:
        """Return the share of killed mutants with its 95 % interval of Clopper and Pearson, and what it is made of."""
        files: dict[str, Counter] = defaultdict(Counter)
        for mutant, outcome in zip(sample, self.outcomes, strict=False):
            files[mutant.file][outcome] += 1
        counts = Counter(self.outcomes)
        killed, counted = counts["killed"] + counts["timeout"], len(self.outcomes) - counts["equivalent"]
        low, high = binomtest(killed, counted).proportion_ci(0.95, "exact") if counted else (0.0, 1.0)
        share = {
            "killed": killed,
            "counted": counted,
            "share": round(killed / max(counted, 1), 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }
        done = "".join(str(OUTCOMES.index(outcome)) for outcome in self.outcomes)
        return self.settings | share | {"outcomes": counts, "files": dict(sorted(files.items())), "left": self.left, "done": done}


def run(num: int, seed: int, out: Path | None = None) -> dict[str, Any]:
    """Draw a sample and kill it.

    Args:
        out: gets the figures after each mutant; an interrupted run of the same sources, tests, number and seed goes on.

    Raises:
        SystemExit: Some test fails without any mutant.
    """
    with tempfile.TemporaryDirectory(prefix="ppdl-mutants-") as folder:
        project, scratch = Path(folder) / "project", Path(folder) / "scratch"
        scratch.mkdir()
        copy_of_the_project(project)
        compileall.compile_dir(project, quiet=2)
        sample, sizes = draw(project, num, seed)
        record = Record.resume({"wanted": num, "seed": seed, "digest": digest(project)} | sizes, out)
        equivalent = json.loads(EQUIVALENT.read_text())
        judge.prepare(project, scratch)
        measured = judge.measure(project, scratch)
        judge.preload(measured["modules"])
        record.settings["unsteady"] = judge.unsteady(dict(sorted(measured["seconds"].items())), scratch)
        for name in record.settings["unsteady"]:
            del measured["seconds"][name]
        for index, mutant in enumerate(sample[len(record.outcomes) :], len(record.outcomes)):
            name = {"file": mutant.file, "function": mutant.function, "change": mutant.change()}
            known = any(name.items() <= row.items() for row in equivalent)
            record.add("equivalent" if known else kill(mutant, index, measured, project, scratch), name)
            print(f"{index + 1}/{len(sample)} {record.outcomes[-1]} {' '.join(name.values())}", flush=True)
            if out:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(record.figures(sample), indent=1) + "\n")
        return record.figures(sample)


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.mutants")
    parser.add_argument("--num", type=int, default=600)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, help="figures, after each mutant; an interrupted run goes on")
    args = parser.parse_args(argv)
    made = run(args.num, args.seed, args.out and args.out.absolute())
    print(json.dumps({name: made[name] for name in ("killed", "counted", "share", "low", "high", "outcomes")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
