"""Kill every party of a pooling run with SIGKILL at chosen steps of its command, give the same command again, and see that nothing is lost.

python -m tests.soak.pool_kills --out tests/soak/results/pool_kills.json    # at every step, half a minute

A step is a file opened for writing, a rename, a link, a removal, or a folder made or removed; what a kill leaves on the disk is what one
of them left, or a file that was written in part. Each kill is in a copy of an undisturbed run as it stood before the killed command.
The run is then gone on with, by the same command and by those that follow. What must hold:

- every file that stood on the board after the kill stands there unchanged in the end, and every hospital is in the total;
- the head is that of the undisturbed run, and of the films in the clear;
- the key holder decrypted one sum and no other, also where another one, signed by all whom it counts, was held out to it after the kill;
- the private key of the run is gone, each hospital's ledger holds the run once, and no unfinished file is left.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.config import PROJECT
from ppdl.crypto.arithmetic.engine import engine
from ppdl.crypto.keys.keystore import private_path
from ppdl.errors import KeyStoreError
from ppdl.pooling import opening
from ppdl.pooling.board import Board, add_released
from ppdl.pooling.hospital import Hospital
from ppdl.pooling.rehearsal import call_run, hospital_key, roster_of
from ppdl.pooling.ridge import fit_ridge
from ppdl.pooling.server import add_contributions
from ppdl.pooling.statements import TALLY, hash_rows, write_signed
from ppdl.pooling.subjects.head import Films, HeadSums
from ppdl.pooling.sums import sums_of
from ppdl.pooling.terms import Terms
from ppdl.private_head.head import QuantisedHead, load_head
from tests.soak.forks import fork

RESULTS = Path(__file__).parent / "results/pool_kills.json"
NAMES, NUM_FILMS, NUM_FEATURES, KEY_BITS = ("anna", "berta", "clara", "dora"), 32, 4, 512
PHASES = ("commit", "release", "add", "countersign", "open")
COMMANDS = [(phase, party) for phase in PHASES for party in {"add": ("server",), "open": ("key holder",)}.get(phase, NAMES)]
_WRITES = os.O_WRONLY | os.O_RDWR
_STEPS = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir")


class Broken(AssertionError):
    """What must hold after a kill does not."""


class Run:
    """The parties of one run below `root`; what was decrypted is noted beside it, one digest of ciphertexts a line."""

    def __init__(self, root: Path, terms: Terms | None = None) -> None:
        self.root, self.board, self.holder = root, Board(root / "board"), root / "private"
        self.hospitals, self.noted = self.holder / "hospitals", root.with_suffix(".decrypted")
        self.terms = terms or self._call()

    def _call(self) -> Terms:
        project = self.root / "project"
        roster = roster_of(dict.fromkeys(NAMES, NUM_FILMS), self.hospitals, project)
        subject = HeadSums(("healthy", "ill"), NUM_FEATURES, 12, "0" * 64, (0.1,), False)
        return call_run(self.board, Terms("", KEY_BITS, subject, roster), self.holder, allow_insecure_key=True, project=project)

    def copy(self, root: Path) -> Run:
        shutil.copytree(self.root, root)
        return Run(root, self.terms)

    def do(self, phase: str, party: str) -> None:
        """Give a party's command."""
        if phase == "add":
            add_contributions(self.board, self.terms)
        elif phase == "open":
            self.open()
        else:
            hospital = Hospital(party, self.terms, self.board, self.hospitals / party, hospital_key(self.hospitals / party))
            getattr(hospital, phase)(*[films(party)] if phase == "commit" else ())

    def open(self) -> QuantisedHead:
        decrypt = opening.decrypt_batch

        def noting(key: Any, ciphertexts: np.ndarray) -> Any:
            with self.noted.open("a") as file:
                file.write(hash_rows(ciphertexts) + "\n")
            return decrypt(key, ciphertexts)

        opening.decrypt_batch = noting
        try:
            return load_head(opening.open_total(self.board, self.terms, self.holder, HeadSums.of(self.terms.subject).solver({})))
        finally:
            opening.decrypt_batch = decrypt

    def posted(self) -> dict[str, bytes]:
        """Return the whole files on the board."""
        files = (path for path in sorted(self.board.folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
        return {str(path.relative_to(self.board.folder)): path.read_bytes() for path in files}

    def hold_out_another_total(self) -> None:
        """Have all hospitals but the last sign a sum of theirs alone, and give it to the key holder, who must not open it any more."""
        tally = self.board.read_tally()
        rest = {name: sha256 for name, sha256 in tally.contributors.items() if name != NAMES[-1]}
        total, sha256 = add_released(self.board, self.terms, dataclasses.replace(tally, contributors=rest))
        other = self.copy(self.root.with_name(self.root.name + "-other"))
        np.save(other.board.sum, total)
        other.board.write_tally(tally := dataclasses.replace(tally, contributors=rest, sum_sha256=sha256))
        for name in rest:
            write_signed(other.board.tallies / f"{name}.json", TALLY, tally, hospital_key(self.hospitals / name))
        try:
            other.open()
        except KeyStoreError as error:
            if "opened another tally" in str(error):
                return
            raise
        finally:
            shutil.rmtree(other.root)
        raise Broken("two totals of one run were opened")

    def check(self, posted: dict[str, bytes]) -> None:
        """Check all that must hold when the run has ended.

        Args:
            posted: what stood on the board after the kill.

        Raises:
            Broken: the first thing that does not.
        """
        head, board = load_head(self.holder / f"{self.terms.fingerprint}.answer"), self.posted()
        if changed := [name for name, content in posted.items() if board.get(name) != content]:
            raise Broken(f"{changed[0]} stood on the board after the kill, and does not in the end")
        if sorted(self.board.read_tally().contributors) != list(NAMES):
            raise Broken("a hospital that contributed is not in the total")
        if not same(head, expected()):
            raise Broken("the head is another than that of all films together")
        if set(self.noted.read_text().split()) != {hash_rows(np.load(self.board.sum))}:
            raise Broken("another sum than that of the tally was decrypted")
        if private_path(self.holder, self.terms.fingerprint).exists():
            raise Broken("the private key of the run is left")
        for name in NAMES:
            ledger = json.loads((self.hospitals / name / f"{name}.contributions.json").read_text())["contributions"]
            if [(entry["run"], len(entry["films"])) for entry in ledger] != [(self.terms.digest, NUM_FILMS)]:
                raise Broken(f"the ledger of {name} does not hold its contribution once")
        if left := [path for pattern in (".*.partial*", ".new-*") for path in self.root.rglob(pattern)]:
            raise Broken(f"an unfinished file is left: {left[0]}")


def films(name: str) -> Films:
    """Return the films of a hospital, the same ones each time."""
    rng = np.random.default_rng(list(name.encode()))
    labels = rng.integers(0, 2, NUM_FILMS)
    features = np.clip(rng.normal(1000 + 1500 * labels[:, None], 300, (NUM_FILMS, NUM_FEATURES)), 0, 4095).astype(np.int64)
    return Films(features, labels, [hashlib.sha256(row.tobytes()).digest() for row in features])


def expected() -> QuantisedHead:
    """Return the head of all films, in the clear."""
    features, labels = (np.concatenate([getattr(films(name), part) for name in NAMES]) for part in ("features", "labels"))
    total = sums_of(features, labels, num_classes=2, feature_bits=12)
    return fit_ridge(total, (0.1,), class_names=("healthy", "ill"), backbone={})[0]


def same(head: QuantisedHead, other: QuantisedHead) -> bool:
    return all(np.array_equal(getattr(head, part), getattr(other, part)) for part in ("weights", "bias", "temperature"))


def run(root: Path, a_phase: int | None) -> dict[str, Any]:
    """Kill `a_phase` times in each phase, at steps spread evenly over it and over its parties, and return the figures; None: at every step.

    Raises:
        AssertionError: what must hold does not.
    """
    command = [sys.executable, "-m", "tests.soak.pool_kills", "--worker", json.dumps({"root": str(root), "a_phase": a_phase})]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def _worker(root: Path, a_phase: int | None) -> dict[str, Any]:
    """Do the work of `run` in a process of its own, without TensorFlow: each attempt is a fork of it."""
    engine()  # which it loads at first use
    began, whole, before, steps = time.monotonic(), Run(root / "undisturbed"), {}, {phase: [] for phase in PHASES}
    for number, (phase, party) in enumerate(COMMANDS):
        before[phase, party] = whole.copy(root / f"before-{number}")
        kinds = _kinds_of_steps(partial(whole.do, phase, party), whole.root)
        for step, (kind, then) in enumerate(zip(kinds, [*kinds[1:], ""], strict=True), 1):
            steps[phase].append((party, step, False))
            if kind == "open" and then:  # the file was written to between this step and the next
                steps[phase].append((party, step + 1, True))
    whole.check({})
    figures: dict[str, Any] = {"num_steps": {phase: len(found) for phase, found in steps.items()}, "killed": {}, "held_out": 0}
    for phase, found in steps.items():
        chosen = found if a_phase is None else [found[round(place)] for place in np.linspace(0, len(found) - 1, a_phase + 2)[1:-1]]
        figures["killed"][phase] = Counter(party for party, _, _ in chosen)
        for number, (party, step, torn) in enumerate(chosen):
            where = f"{phase} of {party}, killed at step {step}" + (", a file written in part" if torn else "")
            copy = before[phase, party].copy(root / f"{phase}-{number}")
            figures["held_out"] += _kill_and_go_on(copy, phase, party, step, torn, where)
            shutil.rmtree(copy.root)
    return figures | {"num_kills": sum(map(Counter.total, figures["killed"].values())), "seconds": round(time.monotonic() - began)}


def _kill_and_go_on(run: Run, phase: str, party: str, step: int, torn: bool, where: str) -> bool:
    """Do one kill and all that follows it, and say whether another total was held out after it."""
    if fork(partial(_killed_at, step, torn, partial(run.do, phase, party), run.root)) != -signal.SIGKILL:
        raise AssertionError(f"{where}: the process was not killed")
    posted, record = run.posted(), run.holder / f"{run.terms.fingerprint}.opening.json"
    used_up = record.exists() or run.noted.exists()  # the one must come before the other
    if used_up:
        _must(fork(run.hold_out_another_total), f"{where}, then another total")

    def go_on() -> None:
        for command in COMMANDS[COMMANDS.index((phase, party)) :]:
            run.do(*command)

    _must(fork(go_on), f"{where}, then the same command and those that follow")
    try:
        run.check(posted)
    except Exception as error:
        raise AssertionError(f"{where}: {error}") from error
    return used_up


def _must(code: int, what: str) -> None:
    if code:
        raise AssertionError(f"{what}: failed with {code}")


def _kinds_of_steps(work: Callable[[], None], folder: Path) -> list[str]:
    """Do something undisturbed, and return what each of its steps below `folder` is."""
    record = folder.with_suffix(".kinds")

    def watched() -> None:
        kinds: list[str] = []
        _at_each_step(lambda kind, _: kinds.append(kind), folder)
        work()
        record.write_text("\n".join(kinds))

    _must(fork(watched), "the undisturbed command")
    return record.read_text().splitlines()


def _killed_at(step: int, torn: bool, work: Callable[[], None], folder: Path) -> None:
    """Do something and be killed before a step; torn: with half of what was written last, as if the kill had come in between."""
    written: list[str] = []

    def kill(_: str, path: str) -> None:
        written.append(path)
        if len(written) == step:
            if torn:
                os.truncate(written[-2], Path(written[-2]).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    _at_each_step(kill, folder)
    work()


def _at_each_step(call: Callable[[str, str], None], folder: Path) -> None:
    """Call something with kind and path before each step of this process below `folder`."""

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name not in _STEPS and not (name == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
            return
        path = arguments[0]
        if isinstance(path, str | bytes | os.PathLike) and Path(os.fsdecode(path)).is_relative_to(folder):
            call(name, os.fsdecode(path))

    sys.addaudithook(hook)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.pool_kills")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        arguments = json.loads(args.worker)
        print(json.dumps(_worker(Path(arguments["root"]), arguments["a_phase"])))
        return
    with tempfile.TemporaryDirectory(prefix="ppdl-pool-kills-") as root:
        figures = run(Path(root), None)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(args.out.read_text())


if __name__ == "__main__":
    main()
