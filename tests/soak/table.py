"""Make the table of docs/reliability.md from the recorded results of the soak.

python -m tests.soak.table --write     put the figures of tests/soak/results/ into docs/reliability.md
python -m tests.soak.table --check     exit 1 when the page does not show what was recorded
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from ppdl.config import PROJECT, keep_in_step
from tests.soak.covered import LEAST_PERCENT

RESULTS = Path(__file__).parent / "results"
PAGE = PROJECT / "docs/reliability.md"
BEGIN, END = "<!-- soak: written by python -m tests.soak.table -->\n", "<!-- end -->"


def rows() -> list[tuple[str, str, str, str]]:
    """Return promise, test, result and figure of everything that was recorded."""
    return (
        _of_kills()
        + _of_first_store()
        + _of_pool_kills()
        + _of_hospital_kills()
        + _of_fuzz()
        + _of_mutants()
        + _of_kernel_mutants()
        + _of_coverage()
        + _of_promises()
        + _of_scale()
        + _of_repro()
    )


def _of_kills() -> list[tuple[str, str, str, str]]:
    kills = recorded("kills")
    if kills is None:
        return [("SIGKILL of all processes at any moment, then `dvc repro` again", "`python -m tests.soak.kills`", "not recorded yet", "")]
    runs = ", ".join(f"{count} {state}" for state, count in sorted(kills["mlflow_runs"].items()))
    hits = ", ".join(f"{stage} {count}" for stage, count in kills["killed_in"].items())
    kill = "`python -m tests.soak.kills`"
    return [
        (
            "SIGKILL of all processes at any moment, then `dvc repro` again: it ends, and a further one has nothing to do",
            kill,
            "holds",
            f"{kills['num_kills']} kills in {kills['num_pipelines']} pipelines: {hits}",
        ),
        *_of_kills_beside(kills.get("beside")),
        (
            "artifacts decrypt to the prepared images bit by bit, and the revealed view is theirs",
            kill,
            "holds",
            f"{kills['images_decrypted_bit_exactly']:,} encrypted images",
        ),
        (
            "no randomness is used twice, also not by what a killed attempt left",
            kill,
            _holds(kills["obfuscators_reused"] == 0),
            f"{kills['obfuscators_reused']} obfuscators in more than one of {kills['ciphertexts_searched']:,} ciphertexts",
        ),
        ("no MLflow run is lost or left RUNNING", kill, "holds", runs),
        (
            "no temporary file is left, no process outlives the kill",
            kill,
            _holds(kills["temporary_files"] == 0 and not kills["survivors"]),
            f"{kills['temporary_files']} files, {len(kills['survivors'])} processes",
        ),
        (
            "no private part in a file but its own, in a command line or in an environment",
            kill,
            "holds",
            f"{kills['processes_watched']:,} processes read while they ran",
        ),
    ]


def _of_kills_beside(kills: dict[str, Any] | None) -> list[tuple[str, str, str, str]]:
    if kills is None:
        return []
    figure = (
        f"{kills['num_kills']} kills in one pipeline, {kills['two_at_once']} of them of two stages at once; what follows holds here too"
    )
    return [("the same of `ppdl repro`, with stages side by side", "`python -m tests.soak.kills`", "holds", figure)]


def _of_first_store() -> list[tuple[str, str, str, str]]:
    store, command = recorded("first_store"), "`python -m tests.soak.first_store`"
    promise = "SIGKILL while MLflow's database is made: the next run has a whole one, also where MLflow itself left half of one"
    if store is None:
        return [(promise, command, "not recorded yet", "")]
    made = [store[how] for how in ("ours", "in_place")]
    kills = " and ".join(f"{len(how['killed_at'])} of {how['num_steps']:,}" for how in made)
    return [(promise, command, _holds(not any(how["failed_at"] for how in made)), f"killed at {kills} steps")]


def _of_pool_kills() -> list[tuple[str, str, str, str]]:
    kills, command = recorded("pool_kills"), "`python -m tests.soak.pool_kills`"
    promise = "SIGKILL of any party of a pooling run, then its command again: one sum is decrypted, nothing is lost, the head is the same"
    if kills is None:
        return [(promise, command, "not recorded yet", "")]
    hits = ", ".join(f"{phase} {sum(parties.values())}" for phase, parties in kills["killed"].items())
    how = f"{kills['num_kills']} kills, at every step and in the middle of every file: {hits}"
    return [(promise, command, "holds", f"{how}; after {kills['held_out']} another signed sum was held out, and refused")]


def _of_hospital_kills() -> list[tuple[str, str, str, str]]:
    found, command = recorded("hospital_kills"), "`python -m tests.soak.hospital_kills`"
    promise = "SIGKILL of any party of a {} over a network in {}, then its command again: all have the {} of an undisturbed run"
    promises = promise.format("pooled head", "any of its phases", "head"), promise.format("federation", "phases of all its sums", "network")
    if found is None:
        return [(promise, command, "not recorded yet", "") for promise in promises]
    load = f"{found['date']}, {found['cores']} cores, load {found['load'][0]:.1f} before and {found['load'][1]:.1f} after"
    return [
        (promise, command, _holds(of["all_the_same"] and found["is_the_stages_head"]), f"{_kills(of)}; {load}")
        for promise, of in zip(promises, (found, found["federation"]), strict=True)
    ]


def _kills(found: Mapping[str, Any]) -> str:
    phases: dict[str, list[str]] = {}
    for kill in found["kills"]:
        phases.setdefault(kill["party"], []).append(kill["phase"])
    parties: dict[str, list[str]] = {}
    for party, names in phases.items():
        parties.setdefault(", ".join(names), []).append(party)
    where = "; ".join(f"{', '.join(names)}: {of}" for of, names in parties.items())
    seconds, same = ([kill[key] for kill in found["kills"]] for key in ("seconds", "the_same"))
    return (
        f"{found['num_kills']} kills ({where}), {sum(same)} with the same; "
        f"{min(seconds):.0f} to {max(seconds):.0f} s from start to end, {found['seconds']:.0f} s undisturbed"
    )


def _of_fuzz() -> list[tuple[str, str, str, str]]:
    fuzz = recorded("fuzz")
    if fuzz is None:
        return [("damaged input: an error of ours, or it is read", "`python -m tests.soak.fuzz`", "not recorded yet", "")]
    table = [
        (
            f"damaged input: an error of ours within {fuzz['deadline_s']} s and {fuzz['memory_limit_bytes'] >> 30} GiB, or it is read",
            "`python -m tests.soak.fuzz`",
            "holds",
            f"{fuzz['num_cases']:,} cases; the slowest took {max(t['slowest_s'] for t in fuzz['targets'].values()):.1f} s, "
            f"the process {fuzz['peak_memory_bytes'] >> 20} MiB",
        ),
    ]
    if guided := recorded("guided"):
        figure = ", ".join(f"{name} {t['number_of_executed_units']:,}" for name, t in guided["targets"].items())
        table.append(("the same, inputs led by coverage (atheris)", "`python -m tests.soak.guided all`", "holds", figure))
    return table + [
        (f"&nbsp;&nbsp;{name}", "", "holds", f"{t.get('refused', 0):,} refused, {t.get('accepted', 0):,} read")
        for name, t in fuzz["targets"].items()
    ]


def _of_promises() -> list[tuple[str, str, str, str]]:
    promises = recorded("promises")
    if promises is None:
        return [("the promises of the tables above", "`python -m tests.soak.promises`", "not recorded yet", "")]
    table = []
    for promise, row in promises["promises"].items():
        files = ", ".join(f"`{file}`" for file in sorted({pattern.partition("::")[0] for pattern in row["tests"]}))
        skipped = f", {row['skipped']} skipped on this machine" if row.get("skipped") else ""
        seen = "holds in part" if skipped and row.get("passed") else "holds" if row.get("passed") else "not seen here"
        result = _holds(False) if row.get("failed") else seen
        table.append((promise, files, result, f"{row.get('passed', 0)} tests in {row['seconds']:.0f} s{skipped}"))
    return table


def _of_scale() -> list[tuple[str, str, str, str]]:
    scale = recorded("scale")
    if scale is None:
        return [("cost grows linearly, memory does not grow", "`python -m benchmarks.scale`", "not recorded yet", "")]
    stages: dict[str, list[dict[str, Any]]] = {}
    for cost in sorted(scale["costs"], key=lambda cost: cost["num_images"]):
        stages.setdefault(cost["stage"], []).append(cost)
    table = []
    for stage, costs in stages.items():
        first, last = costs[0], costs[-1]
        slopes = [(b["core_s"] - a["core_s"]) / (b["num_images"] - a["num_images"]) * 1000 for a, b in pairwise(costs)]
        sizes = f"{first['num_images']:,} to {last['num_images']:,} images"
        grown = f"{first['peak_bytes'] / 2**20:.0f} to {last['peak_bytes'] / 2**20:.0f} MiB"
        per = " / ".join(f"{slope:.2f}" for slope in slopes)
        table.append((f"&nbsp;&nbsp;{stage}", "", "", f"{sizes}: {per} core s per 1,000 further images, {grown}"))
    head = ("cost grows linearly, memory does not grow", "`python -m benchmarks.scale`", "see the stages", "32 px, 2048-bit key")
    return [head, *table]


def _of_repro() -> list[tuple[str, str, str, str]]:
    runs, command = recorded("repro"), "`python -m tests.soak.repro`"
    if runs is None:
        return [("a fresh clone rebuilds the experiment, with Python 3.11, 3.12 and 3.13", command, "not recorded yet", "")]
    table = []
    for run in runs:
        how = "`make repro`, two stages at a time" if run["stages_at_a_time"] == 2 else "`dvc repro`, one stage at a time"
        accuracy = ", ".join(f"{name} {value:.1%}" for name, value in run["accuracy"].items())
        took = f"{run['wall_s'] / 60:.1f} minutes and {run['core_s'] / 60:.1f} core minutes on {run['cores']} cores"
        table.append((f"a fresh clone rebuilds the experiment with Python {run['python']}: {how}", command, "holds", f"{took}; {accuracy}"))
    idle = ", ".join(f"{run['nothing_to_do_s']:.1f} s" for run in runs)
    return [*table, ("`dvc repro` with nothing to do", command, "holds", idle)]


def _of_mutants() -> list[tuple[str, str, str, str]]:
    mutants, command = recorded("mutants"), "`python -m tests.soak.mutants`"
    promise = "at least 90 % of small changes of the cryptography and of the statistics are noticed by a test"
    if mutants is None:
        return [(promise, command, "not recorded yet", "")]
    figure = (
        f"{mutants['killed']} of {mutants['counted']} drawn from {mutants['num_mutants'] - mutants['num_messages']:,}: "
        f"{100 * mutants['share']:.1f} % (95 % interval {100 * mutants['low']:.1f} to {100 * mutants['high']:.1f}; seed {mutants['seed']})"
    )
    sure = "holds" if mutants["low"] >= 0.9 else "holds in the sample; the interval goes below"
    return [(promise, command, sure if mutants["share"] >= 0.9 else _holds(False), figure)]


def _of_kernel_mutants() -> list[tuple[str, str, str, str]]:
    mutants, command = recorded("kernel_mutants"), "`python -m tests.soak.kernel_mutants`"
    promise = "every listed change of the vector kernel and of its programs is noticed by a test"
    if mutants is None:
        return [(promise, command, "not recorded yet", "")]
    return [(promise, command, _holds(not mutants["left"]), f"{mutants['killed']} of {mutants['listed']}")]


def _of_coverage() -> list[tuple[str, str, str, str]]:
    coverage, command = recorded("coverage"), "`python -m tests.soak.covered`"
    promise = f"the tests run at least {LEAST_PERCENT} % of the statements of ppdl/"
    if coverage is None:
        return [(promise, command, "not recorded yet", "")]
    percent = coverage["percent"]
    parts = sorted((share, part) for part, share in percent.items() if part != "ppdl")
    figure = f"{percent['ppdl']} % by {coverage['tests']:,} tests; least {parts[0][1]} with {parts[0][0]} %, {coverage['skipped']} skipped"
    return [(promise, command, _holds(percent["ppdl"] >= LEAST_PERCENT), figure)]


def _holds(fact: bool) -> str:
    return "holds" if fact else "**broken**"


def recorded(name: str) -> Any:
    """Read one record; None where the soak has not been run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def fresh() -> bytes:
    """Return the page with the recorded figures."""
    head = ["| promise | test | result | figure |", "|---|---|---|---|"]
    table = "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows())])
    pattern = re.compile(f"({re.escape(BEGIN)}).*?({re.escape(END)})", re.DOTALL)
    return pattern.sub(lambda found: f"{found.group(1)}\n{table}\n\n{found.group(2)}", PAGE.read_text()).encode()


def main(argv: list[str] | None = None) -> int:
    """Write or check the page."""
    return keep_in_step("tests.soak.table", "docs/reliability.md", PAGE, fresh, argv, "tests/soak/results/")


if __name__ == "__main__":
    sys.exit(main())
