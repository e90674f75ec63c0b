"""Measure Paillier here against python-paillier (phe), in one run: user CPU, interleaved repeats, medians.

    python -m benchmarks.crypto                      # 2048 and 3072 bits, a table each, about 4 minutes
    python -m benchmarks.crypto --json               # one JSON object on a line for each key length, in the order of --bits
    python -m benchmarks.crypto --quick              # fewer repeats, without the memory rows: under 60 s
    python -m benchmarks.crypto --bits 2048 --memory-images 1000 10000

phe runs on gmpy2 and is given what its users write: `encrypt` and `decrypt` of a pixel each, EncryptedNumber times weights, added up. Times
are user CPU of this process but for "two workers", which is wall time and needs idle cores (a row gives it by CPU time too). Tables of
powers are built before, and their time, memory and break-even are rows of their own. Rivals (pypaillier, lightphe, TenSEAL) run when they
are installed: pip install 'ppdl[bench]'.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import gmpy2
import numpy as np
import phe
from rich.console import Console
from rich.table import Table

from benchmarks import crypto_memory, crypto_rivals
from benchmarks.crypto_cases import FULL, QUICK, Bench, user_seconds
from benchmarks.crypto_workers import two_workers_over_one

TARGETS = {  # at 2048 bits; of the vector engine, where there is one
    "engine": "",
    "dense_encrypt_public_over_phe": ">= 35,000",
    "dense_encrypt_owner_over_phe": ">= 45,000",
    "dense_decrypt_over_phe": ">= 1,700",
    "stem_over_phe": ">= 3,000",
    "rerandomise_over_gmpy2": ">= 7",
    "rerandomise_one_over_gmpy2": "",
    "bytes_per_pixel_dense": "<= 2.01",
    "bytes_per_pixel_slot20": "<= 5.1",
    "two_workers_over_one": ">= 1.8",
}


def detail_rows(bench: Bench, seconds: dict[str, float]) -> list[tuple[str, str]]:
    """Return rows that explain the figures: absolute times, tables and their break-even."""
    rows = [(f"{name.replace('_', ' ')}, us a {_unit(name)}", f"{value * 1e6:,.2f}") for name, value in seconds.items()]
    for name, source in bench.sources.items():
        per_ciphertext = seconds[f"dense_encrypt_{name}"] * bench.dense.values_per_plaintext
        even = bench.build_seconds[name] / (seconds["phe_encrypt"] - per_ciphertext)
        tables = [source._table] if name == "public" else source._tables
        size = sum(table.nbytes for table in tables)
        text = f"{bench.build_seconds[name]:.2f} s, {size / 2**20:.0f} MiB of numbers, {source.window_bits}-bit windows"
        rows.append((f"tables, {name}", f"{text}; pay off after {even:.0f} ciphertexts"))
    return rows


def _unit(name: str) -> str:
    return "patch" if "stem" in name else "ciphertext" if "rerandomise" in name else "pixel"


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}" if value >= 100 else f"{value:.4g}"


def show(bench: Bench, figures: dict, rows: Sequence[tuple[str, str]]) -> None:
    """Print the table of one key length."""
    key_bits = bench.public.key_bits
    table = Table(title=f"Paillier, {key_bits} bits, against phe {phe.__version__}", title_justify="left")
    for column in ("figure", "measured", "target at 2048 bits"):
        table.add_column(column)
    for name, value in figures.items():
        table.add_row(name, _text(value), TARGETS[name])
    table.add_section()
    for name, value in rows:
        table.add_row(name, value, "")
    Console(width=120).print(table)


def _rounded(value: float | str) -> float | str:
    return value if isinstance(value, str) else round(value, 6)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crypto", description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=int, nargs="+", choices=(2048, 3072, 4096), default=[2048, 3072], help="key lengths")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables: the figures alone")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, no memory rows: under 60 s")
    parser.add_argument("--memory-images", type=int, nargs=2, default=[1000, 10_000], help="images for the memory rows, 48 px each")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    options, load = parse_arguments(arguments), os.getloadavg()[0]
    sizes = QUICK if options.quick else FULL
    if not options.json:
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, {gmpy2.mp_version()}")
        print(f"Python {platform.python_version()}, gmpy2 {gmpy2.version()}, numpy {np.__version__}")
    for key_bits in options.bits:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(key_bits, sizes, Path(folder))
            bench.prepare()
            seconds = bench.seconds()
            figures = bench.figures(seconds)
            repeats = max(3, sizes.repeats // 2)
            wall, cpu = two_workers_over_one(bench.public, bench.pixels, bench.sizes.worker_shards, repeats)
            figures["two_workers_over_one"] = wall
            if options.json:
                print(json.dumps({name: _rounded(figures[name]) for name in TARGETS}), flush=True)
                continue
            rows = detail_rows(bench, seconds)
            rows.append(("two workers, by CPU time", f"{cpu:.3f}; by wall time {wall:.3f} at a load of {load:.1f} before"))
            rows += crypto_rivals.rows(bench.pixels, key_bits, sizes.repeats, user_seconds)
            if not options.quick:
                rows += crypto_memory.rows(key_bits, options.memory_images, Path(folder))
            show(bench, {name: figures[name] for name in TARGETS}, rows)


if __name__ == "__main__":
    sys.exit(main())
