"""Feed damaged input to everything that reads input: only our own errors may come out, in bounded time and memory.

python -m tests.soak.fuzz --cases 100000 --out tests/soak/results/fuzz.json    # some minutes

Each target takes a good input, damages it (tests/soak/mutate.py) and reads it. A case fails when anything but the error that the target
names comes out, when it takes longer than `DEADLINE_S`, or when memory beyond `MEMORY_BYTES` is asked for: address space is limited, and
a MemoryError is none of our errors. Hypothesis shrinks a failing case and prints it.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st

from ppdl.errors import PpdlError
from tests.soak import fuzz_config, fuzz_crypto, fuzz_data

RESULTS = Path(__file__).parent / "results/fuzz.json"
DEADLINE_S = 10
MEMORY_BYTES = 3 * 2**30
TARGETS = [*fuzz_crypto.TARGETS, *fuzz_data.TARGETS, *fuzz_config.TARGETS]


class Hang(BaseException):
    """A case took longer than the deadline."""


@dataclass
class Outcome:
    """What became of the cases of one target."""

    counts: Counter = field(default_factory=Counter)
    slowest_s: float = 0.0


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    def hang(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
    faulthandler.dump_traceback_later(6 * DEADLINE_S, exit=True)  # where a library never comes back to Python
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def fuzz(name: str, strategy: st.SearchStrategy, read: Callable[[Any], None], error: type[PpdlError], num_cases: int, seed: int) -> Outcome:
    """Run a target.

    Args:
        read: takes a case; returns when it accepts it.
        error: the only exception by which it may refuse.

    Raises:
        What `read` raised beside `error`, on the smallest such case.
    """
    outcome = Outcome()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=num_cases,
        deadline=None,  # ours interrupts the case, hypothesis' would only complain afterwards
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )
    @hypothesis.given(strategy)
    def case(damaged: Any) -> None:
        began = time.perf_counter()
        try:
            with _deadline():
                read(damaged)
            outcome.counts["accepted"] += 1
        except error:
            outcome.counts["refused"] += 1
        outcome.slowest_s = max(outcome.slowest_s, time.perf_counter() - began)

    case()
    return outcome


def run(num_cases: int, seed: int, only: str = "", out: Path | None = None) -> dict[str, Any]:
    """Run all targets, `num_cases` in all, shared out by their weights, and return the figures.

    Args:
        only: targets whose function's name holds this.
        out: gets the figures after each target; what it holds of the same number of cases and seed is not run again.
    """
    warnings.simplefilter("ignore")  # Pillow and pydicom warn of what they then read or refuse
    settings = {"wanted": num_cases, "seed": seed, "deadline_s": DEADLINE_S, "memory_limit_bytes": MEMORY_BYTES}
    found = json.loads(out.read_text()) if out and out.exists() else {}
    targets = found.get("targets", {}) if found.items() >= settings.items() else {}
    peak = found.get("peak_memory_bytes", 0) if targets else 0
    figures = settings
    with tempfile.TemporaryDirectory(prefix="ppdl-fuzz-") as folder:
        made = [make(Path(folder)) for make in TARGETS if only in make.__name__]
        total = sum(target.weight for target in made)
        for target in [target for target in made if target.name not in targets]:
            began = time.monotonic()
            done = fuzz(target.name, target.strategy, target.read, target.error, -(-num_cases * target.weight // total), seed)
            times = {"slowest_s": round(done.slowest_s, 3), "seconds": round(time.monotonic() - began, 1)}
            targets[target.name] = {**done.counts, **times}
            print(f"{target.name}: {targets[target.name]}", flush=True)
            cases = sum(row.get("accepted", 0) + row.get("refused", 0) for row in targets.values())
            peak = max(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            figures = settings | {"num_cases": cases, "peak_memory_bytes": peak, "targets": targets}
            if out:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def main(argv: list[str] | None = None) -> int:
    """Run from the command line, in a process whose memory is limited."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.fuzz")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20220314)
    parser.add_argument("--only", default="", help="targets whose name holds this")
    parser.add_argument("--out", type=Path, help="figures, after each target; an interrupted run goes on")
    args = parser.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    run(args.cases, args.seed, args.only, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
