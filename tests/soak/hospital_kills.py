"""Kill each party of a pooled head over a network with SIGKILL in each phase, give its command again, and see that all get the same head.

python -m tests.soak.hospital_kills     # after `make hospitals`; 20 kills, 10 minutes

An undisturbed run of the commands of docs/howto/hospitals.md comes first, whose seconds and bytes are kept. Each kill is in a copy of the
parties as they stood before they connected, or, in a phase after the release, when all had committed and some had released.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.serving.hospitals.parties import NAMES, PARTIES, Films, Parties

RESULTS = Path(__file__).parent / "results/hospital_kills.json"
# Who is killed as soon as it has printed what; a party prints what it is asked to do before it does it, the server what it has from whom.
SERVER = [("server", phase, said) for phase, said in {"start": "listening at", "commit": "commit ", "release": "release "}.items()]
SERVER += [("server", phase, f"{phase} ") for phase in ("countersign", "open", "keep")]
HOSPITALS = [(name, phase, f"asked to {phase}") for name in NAMES for phase in ("commit", "release", "countersign", "keep")]
KILLS = [*SERVER, *HOSPITALS, *(("key-holder", phase, f"asked to {phase}") for phase in ("open", "keep"))]


def run(parties: Parties, kill: tuple[str, str, str] | None = None) -> tuple[str, float]:
    """Run all parties, kill one and start it again, and return the digest of the head that all have, and the seconds.

    Raises:
        AssertionError: a party does not end, ends with an error, or has another head.
    """
    began = time.monotonic()
    try:
        for party in PARTIES:
            parties.start(party)
        if kill is not None:
            party, _, said = kill
            parties.wait_for(party, said)
            parties.kill(party)
            parties.start(party)
        codes = parties.ends(600)
    finally:
        parties.stop()
    assert codes == dict.fromkeys(PARTIES, 0), {party: parties.printed(party)[-500:] for party in PARTIES}
    (digest,) = set(parties.digests().values())
    return digest, round(time.monotonic() - began, 1)


def undisturbed(parties: Parties) -> dict[str, Any]:
    """Return the head's digest, the seconds of each phase, by the server's clock to its last answer, and the bytes of each party."""
    digest, seconds = run(parties)
    said = parties.printed("server")
    answers = re.findall(r"^(\w+) [\w-]+: ([\d.]+) s$", said, re.MULTILINE)
    phases = {phase: max(float(number) for found, number in answers if found == phase) for phase, _ in answers}
    traffic = re.findall(r"^traffic ([\w-]+): (\d+) bytes came, (\d+) went$", said, re.MULTILINE)
    return {
        "head_sha256": digest,
        "seconds": seconds,
        "seconds_by_phase": phases,
        "bytes_by_party": {name: {"sent": int(came), "received": int(went)} for name, came, went in traffic},
    }


def measure(root: Path, kills: Sequence[tuple[str, str, str]], num_images: int) -> dict[str, Any]:
    """Make the parties, run them undisturbed, then with each kill."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
    films = Films(root / "films", num_images)
    agreed = Parties(root / "agreed", films)
    figures = undisturbed(whole := Parties(root / "undisturbed", None, agreed))
    stage = films.head_of_the_stages(whole.run_folder("server") / "backbone.keras")
    figures["is_the_stages_head"] = (stage / "head.json").read_bytes() == (whole.run_folder("anna") / "head/head.json").read_bytes()
    committed = Parties(root / "committed", None, agreed)
    for party in PARTIES:
        committed.start(party)
    committed.wait_for("server", "release ")
    committed.stop()
    found = []
    for party, phase, said in kills:
        parties = Parties(root / f"{party}-{phase}", None, agreed if phase in ("start", "commit", "release") else committed)
        for name in PARTIES:
            (parties.root / name / "said").unlink(missing_ok=True)
        digest, seconds = run(parties, (party, phase, said))
        found.append({"party": party, "phase": phase, "seconds": seconds, "same_head": digest == figures["head_sha256"]})
        print(json.dumps(found[-1]), flush=True)
        shutil.rmtree(parties.root)
    return figures | {"kills": found, "num_kills": len(found), "all_the_same_head": all(one["same_head"] for one in found)}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.hospital_kills")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--images", type=int, default=120, help="phantoms, of which about 80 %% are pooled")
    parser.add_argument("--only", help="kill this party alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ppdl-hospital-kills-") as root:
        figures = measure(Path(root), [kill for kill in KILLS if args.only in (None, kill[0])], args.images)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(args.out.read_text())


if __name__ == "__main__":
    main()
