"""What `ppdl artifact audit` says of published schemes, beside what it should say: without originals, and with 20 known images.

    python -m benchmarks.schemes                            # all of them on 100 films of 64 px; some minutes on one core
    python -m benchmarks.schemes --only aes_ecb hill        # some
    python -m benchmarks.schemes --json schemes.json        # all figures too; what is there already is kept, and only the rest is run

Schemes, sources and expected verdicts: tests/audit/schemes. With originals the audit gives the attacker 20 of them, and a verdict is on the
likeness to the others; without any it is on structure. An attack that "found" something may have found less than the verdict's best.
"""

import argparse
import json
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ppdl.audit.examination.base import Attack
from ppdl.audit.folder.examine import ATTACKS, WITH_ORIGINALS, audit_folder, meaning
from ppdl.audit.folder.pictures import target_of_pictures
from ppdl.cli.artifact.audit import _attacks
from tests.audit.schemes import SCHEMES, Scheme, collimated, films

WAYS = {"alone": False, "known": True}  # whether there are originals
SILENT = ("does not apply", "not run", "no success", "entropy", "finds")


def attacks() -> dict[str, Attack]:
    """Build the attacks of the command; of seriation only the one on all images, which is what the verdict looks at."""
    built = _attacks(ATTACKS + WITH_ORIGINALS)
    return built | {"seriation": replace(built["seriation"], num_images=(None,), num_repeats=1)}


def audited(scheme: Scheme, images: np.ndarray, prior: np.ndarray, *, with_originals: bool, seed: int) -> dict[str, Any]:
    """Return the verdict's level and sentence, what each attack's figures mean, and seconds."""
    protected = scheme.protect(images, np.random.default_rng([seed, 2]))
    target = target_of_pictures("scheme", protected, prior)
    start = time.perf_counter()
    found = audit_folder(attacks(), target, images if with_originals else None, seed=seed)
    said = {name: meaning(row) for name, row in found.results.items()}
    figures = {name: row.get("ssim" if with_originals else "structure") for name, row in found.results.items()}
    succeeded = {name: figures[name] or 0.0 for name, text in said.items() if not text.startswith(SILENT)}
    best = max(succeeded, key=lambda name: succeeded[name], default="")
    return {
        "verdict": found.level,
        "best": best,
        "figure": figures.get(best),
        "sentence": found.sentence,
        "means": said,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SCHEMES, default=list(SCHEMES), metavar="NAME", help="some of the schemes")
    parser.add_argument("--images", type=int, default=100, metavar="N", help="films of as many patients (100)")
    parser.add_argument("--px", type=int, default=64, help="side of the films (64)")
    parser.add_argument("--seed", type=int, default=0, help="of films, keys and attackers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures; results that it holds already are not computed again")
    args = parser.parse_args()
    images, prior = collimated(args.seed + 1, args.images, args.px), films(args.seed + 1009, 200, args.px)
    rows: dict[str, Any] = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {}
    for name in tqdm([name for name in args.only if name not in rows], unit="scheme"):
        scheme = SCHEMES[name]
        rows[name] = {way: audited(scheme, images, prior, with_originals=originals, seed=args.seed) for way, originals in WAYS.items()}
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1) + "\n")
    for name, way in product(args.only, WAYS):
        rows[name][way]["expected"] = getattr(SCHEMES[name], way)
    print("| scheme | alone: expected | verdict | best attack | 20 known: expected | verdict | best attack |\n" + "|---" * 7 + "|")
    for name in args.only:
        print(f"| {name} | " + " | ".join(_cells(rows[name][way]) for way in WAYS) + " |")
    for way in WAYS:
        right = sum(rows[name][way]["expected"] == rows[name][way]["verdict"] for name in args.only)
        print(f"{way}: {right} of {len(args.only)} as expected, {sum(rows[name][way]['seconds'] for name in args.only):.0f} s")


def _cells(row: dict[str, Any]) -> str:
    verdict = row["verdict"] if row["verdict"] == row["expected"] else f"**{row['verdict']}**"
    best = row["best"] + ("" if row["figure"] is None else f" {row['figure']:.2f}")
    return f"{row['expected']} | {verdict} | {best}"


if __name__ == "__main__":
    main()
