"""Kill each party of a run over a network with SIGKILL in each phase, give its command again, and see that all have the same in the end.

python -m tests.soak.hospital_kills     # after `make hospitals`; 20 kills of a head and 14 of a federation, half an hour

An undisturbed run of the commands of docs/howto/hospitals.md comes first, whose seconds and bytes are kept. Each kill is in a copy of the
parties as they stood before they connected, or, in a phase after the release, when all had committed and some had released; from there an
undisturbed run is made too. Those of a federation begin before the parties connect, and are spread over its five sums.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.serving.hospitals.parties import NAMES, PARTIES, SMALL, Films, Parties

RESULTS = Path(__file__).parent / "results/hospital_kills.json"
# Who is killed as soon as it has printed what; a party prints what it is asked to do before it does it, the server what it has from whom.
SERVER = [("server", phase, said) for phase, said in {"start": "listening at", "commit": "commit ", "release": "release "}.items()]
SERVER += [("server", phase, f"{phase} ") for phase in ("countersign", "open", "keep")]
HOSPITALS = [(name, phase, f"asked to {phase}") for name in NAMES for phase in ("commit", "release", "countersign", "keep")]
FEDERATED = [
    ("server", phase, f"{phase} ") for phase in ("commit 1/5", "call 2/5", "release 2/5", "countersign 3/5", "open 4/5", "keep 5/5")
]
FEDERATED += [("anna", phase, f"asked to {phase}") for phase in ("commit 1/5", "commit 2/5", "release 3/5", "countersign 4/5", "keep 5/5")]
FEDERATED += [("key-holder", phase, f"asked to {phase}") for phase in ("call 2/5", "open 3/5", "keep 4/5")]
LIMIT_S = 600  # for all parties of a run to end
KILLS = [*SERVER, *HOSPITALS, *(("key-holder", phase, f"asked to {phase}") for phase in ("open", "keep"))]


def run(parties: Parties, kill: tuple[str, str, str] | None = None, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Run all parties, kill one and start it again.

    Returns:
        What came of it: seconds; of a hospital and the key holder `answered`, whether the kill came only when that phase was done;
        `sha256` of what all have, a head or the last round of a network, or in its place, where a party ended without it, `ended`: its last
        line, or that it did not end.
    """
    began, found = time.monotonic(), dict[str, Any]()
    try:
        for party in PARTIES:
            parties.start(party)
        if kill is not None:
            party, phase, said = kill
            parties.wait_for(party, said)
            parties.kill(party)
            if party != "server":
                found["answered"] = f"{phase}: " in parties.printed(party)
            parties.start(party)
        codes = parties.ends(limit_s)
    except subprocess.TimeoutExpired:
        codes = {party: process.poll() for party, process in parties.running.items()}
    finally:
        parties.stop()
    found["seconds"] = round(time.monotonic() - began, 1)
    without = {party: code for party, code in codes.items() if code != 0}
    if not without and len(set(parties.digests().values())) == 1 == len(same := parties.outcomes()):
        return found | {"sha256": same.pop()}
    lines = {party: ["", *parties.printed(party).splitlines()][-1] if code else f"no end in {limit_s} s" for party, code in without.items()}
    return found | {"ended": lines or parties.digests()}


def undisturbed(parties: Parties, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Return what came of a run without a kill; bytes of each party; seconds of each phase, by the server's clock, of all sums."""
    found, said = run(parties, limit_s=limit_s), parties.printed("server")
    answers, last = re.findall(r"^(\w+)(?: (\d+)/\d+)? [\w-]+: ([\d.]+) s$", said, re.MULTILINE), dict[tuple[str, str], float]()
    for phase, number, seconds in answers:
        last[phase, number] = max(last.get((phase, number), 0.0), float(seconds))
    phases = {phase: round(sum(spent for (of, _), spent in last.items() if of == phase), 2) for phase, _ in last}
    traffic = re.findall(r"^traffic ([\w-]+): (\d+) bytes came, (\d+) went$", said, re.MULTILINE)
    sizes = {name: {"sent": int(came), "received": int(went)} for name, came, went in traffic}
    return found | {"seconds_by_phase": phases, "bytes_by_party": sizes}


def measure(root: Path, kills: Sequence[Sequence[tuple[str, str, str]]], num_images: int) -> dict[str, Any]:
    """Make the parties, run them undisturbed, from both places that a kill begins at, then with each kill; the same of a federation."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
    before = os.getloadavg()[0]
    films = Films(root / "films", num_images)
    agreed = Parties(root / "agreed", films)
    agreed.invite()
    figures = undisturbed(whole := Parties(root / "undisturbed", None, agreed))
    stage = films.head_of_the_stages(whole.run_folder("server") / "backbone.keras")
    figures["is_the_stages_head"] = (stage / "head.json").read_bytes() == (whole.run_folder("anna") / "head/head.json").read_bytes()
    committed = Parties(root / "committed", None, agreed)
    for party in PARTIES:
        committed.start(party)
    committed.wait_for("server", "release ")
    committed.stop()
    figures["from_committed"] = run(forget(Parties(root / "resumed", None, committed)))
    likes = [agreed if phase in ("start", "commit", "release") else committed for _, phase, _ in kills[0]]
    figures |= killed(root, zip(kills[0], likes, strict=True), figures["sha256"])
    figures["all_the_same"] &= figures["from_committed"].get("sha256") == figures["sha256"]
    called = Parties(root / "called", None, agreed)
    called.invite(SMALL)
    federation = undisturbed(Parties(root / "federated", None, called))
    federation |= killed(root, ((kill, called) for kill in kills[1]), federation["sha256"])
    where = {"date": datetime.now(UTC).date().isoformat(), "cores": os.cpu_count(), "load": [before, os.getloadavg()[0]]}
    return where | figures | {"federation": federation}


def killed(root: Path, kills: Iterable[tuple[tuple[str, str, str], Parties]], sha256: str) -> dict[str, Any]:
    """Run with each kill, from a copy of the parties that go with it; `sha256` is what all should have."""
    found = []
    for number, (kill, like) in enumerate(kills):
        parties = forget(Parties(root / f"killed-{number}", None, like))
        came = run(parties, kill)
        found.append({"party": kill[0], "phase": kill[1], **came, "the_same": came.get("sha256") == sha256})
        print(json.dumps(found[-1]), flush=True)
        shutil.rmtree(parties.root)
    return {"kills": found, "num_kills": len(found), "all_the_same": all(one["the_same"] for one in found)}


def forget(parties: Parties) -> Parties:
    """Remove what was printed before these parties were copied."""
    for name in PARTIES:
        (parties.root / name / "said").unlink(missing_ok=True)
    return parties


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.hospital_kills")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--images", type=int, default=120, help="phantoms, of which about 80 %% are pooled")
    parser.add_argument("--only", help="kill this party alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ppdl-hospital-kills-") as root:
        figures = measure(
            Path(root), [[kill for kill in kills if args.only in (None, kill[0])] for kills in (KILLS, FEDERATED)], args.images
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(args.out.read_text())


if __name__ == "__main__":
    main()
