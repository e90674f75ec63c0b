"""Fuzz that is led by coverage, with atheris: what reads bytes, until it fails or the runs are spent.

pip install 'ppdl[soak]' && python -m tests.soak.guided all --runs 20000     # or one of headers, public_keys, pictures, dicom

The same readers and the same rule as tests/soak/fuzz.py; libFuzzer looks for inputs that reach new lines of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ppdl.errors import PpdlError

TIMEOUT_S, MEMORY_MIB = 10, 3072
TARGETS = ("headers", "public_keys", "pictures", "dicom")


def readers(folder: Path) -> dict[str, tuple[Callable[[bytes], object], list[bytes]]]:
    """Return what reads bytes, each with good inputs to start from."""
    from tests.soak import fuzz_crypto, fuzz_data

    artifacts, key = fuzz_crypto._artifacts(folder), folder / "public.json"
    fuzz_crypto.save_public(key, fuzz_crypto.KEY.public)

    def picture(name: str) -> Callable[[bytes], object]:
        return lambda data: fuzz_data._read_picture(folder, (name, data))

    headers = [(path / "header.json").read_bytes() for path in artifacts.values()]
    pictures = list(fuzz_data.picture_contents().values())
    return {
        "headers": (lambda data: fuzz_crypto.parse_header(data.decode("latin-1")), headers),
        "public_keys": (lambda data: fuzz_crypto._load(fuzz_crypto.load_public, key, data), [key.read_bytes()]),
        "pictures": (picture("x.png"), pictures),  # Pillow goes by content
        "dicom": (picture("x.dcm"), [fuzz_data._dicom({}), fuzz_data._dicom_jpeg()]),
    }


def run_all(num_runs: int, seed: int, out: Path) -> int:
    """Fuzz every reader in a process of its own, which libFuzzer ends; record how many inputs each took, and how many reached new lines."""
    figures: dict[str, dict[str, int]] = {}
    for target in TARGETS:
        command = [sys.executable, "-m", "tests.soak.guided", target, "--runs", str(num_runs), "--seed", str(seed)]
        with tempfile.TemporaryDirectory(prefix="ppdl-guided-") as folder:  # libFuzzer ends the process without cleaning up
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=os.environ | {"TMPDIR": folder})
        if done.returncode:
            print(done.stderr[-4000:], file=sys.stderr)
            return 1
        found = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
        figures[target] = {name: int(found[f"{name}"]) for name in ("number_of_executed_units", "new_units_added", "peak_rss_mb")}
        print(target, figures[target], flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"seed": seed, "targets": figures}, indent=1) + "\n")
    return 0


def fuzz_one(target: str, num_runs: int, seed: int) -> None:
    """Fuzz one reader; libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["ppdl"]), tempfile.TemporaryDirectory() as folder:
        read, seeds = readers(Path(folder))[target]
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, data in enumerate(seeds):
            (corpus / str(number)).write_bytes(data)

        def once(data: bytes) -> None:
            with contextlib.suppress(PpdlError):  # the one way to refuse
                read(data)

        limits = [f"-runs={num_runs}", f"-seed={seed}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MIB}", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *limits, str(corpus)], once)
        atheris.Fuzz()


def main() -> int:
    """Fuzz from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.guided")
    parser.add_argument("target", choices=["all", *TARGETS])
    parser.add_argument("--runs", type=int, default=200_000, help="inputs of a target")
    parser.add_argument("--seed", type=int, default=20220314)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/guided.json")
    args = parser.parse_args()
    if args.target == "all":
        return run_all(args.runs, args.seed, args.out)
    fuzz_one(args.target, args.runs, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
