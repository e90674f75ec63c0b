"""Measure Paillier here against python-paillier (phe), in one run: user CPU, interleaved repeats, medians.

    python -m benchmarks.crypto                      # 2048 and 3072 bits, a table each, about 4 minutes
    python -m benchmarks.crypto --json               # one JSON object on a line for each key length, in the order of --bits
    python -m benchmarks.crypto --quick              # fewer repeats, without the memory rows: under 60 s
    python -m benchmarks.crypto --bits 2048 --memory-images 1000 10000

phe runs on gmpy2 and is given what its users write: `encrypt` and `decrypt` of a pixel each, EncryptedNumber times weights, added up. Times
are user CPU of this process but for "two workers", which is wall time and needs idle cores (a row gives it by CPU time too). Tables of
powers are built before, and their time, memory and break-even are rows of their own. Rivals (pypaillier, TenSEAL) run when they are
installed: pip install pypaillier tenseal.
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

TARGETS = {  # at 2048 bits
    "dense_encrypt_public_over_phe": ">= 3500",
    "dense_encrypt_owner_over_phe": ">= 5000",
    "dense_decrypt_over_phe": ">= 240",
    "stem_over_phe": ">= 300",
    "bytes_per_pixel_dense": "<= 2.01",
    "bytes_per_pixel_slot20": "<= 5.1",
    "non_arithmetic_fraction": "<= 0.10",
    "two_workers_over_one": ">= 1.8",
}


def detail_rows(bench: Bench, seconds: dict[str, float], fractions: dict[str, float]) -> list[tuple[str, str]]:
    """Return rows that explain the figures: absolute times, tables and their break-even, time outside modular arithmetic."""
    rows = [
        (f"{name.replace('_', ' ')}, us a {'patch' if 'stem' in name else 'pixel'}", f"{value * 1e6:,.2f}")
        for name, value in seconds.items()
    ]
    for name, source in bench.sources.items():
        per_ciphertext = seconds[f"dense_encrypt_{name}"] * bench.dense.values_per_plaintext
        even = bench.build_seconds[name] / (seconds["phe_encrypt"] - per_ciphertext)
        tables = [source._table] if name == "public" else source._tables
        size = sum(table.modulus.bit_length() / 8 * sum(map(len, table.rows)) for table in tables)
        text = f"{bench.build_seconds[name]:.2f} s, {size / 2**20:.0f} MiB of numbers, {source.window_bits}-bit windows"
        rows.append((f"tables, {name}", f"{text}; pay off after {even:.0f} ciphertexts"))
    rows += [(f"not arithmetic, {name}", f"{fraction:.1%}") for name, fraction in fractions.items()]
    return rows


def show(bench: Bench, figures: dict, rows: Sequence[tuple[str, str]]) -> None:
    """Print the table of one key length."""
    key_bits = bench.public.key_bits
    table = Table(title=f"Paillier, {key_bits} bits, against phe {phe.__version__}", title_justify="left")
    for column in ("figure", "measured", "target at 2048 bits"):
        table.add_column(column)
    for name, value in figures.items():
        table.add_row(name, f"{value:,.0f}" if value >= 100 else f"{value:.4g}", TARGETS[name])
    table.add_section()
    for name, value in rows:
        table.add_row(name, value, "")
    Console(width=120).print(table)


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
            seconds, fractions = bench.seconds(), bench.non_arithmetic_fractions()
            figures = bench.figures(seconds, fractions)
            repeats = max(3, sizes.repeats // 2)
            wall, cpu = two_workers_over_one(bench.public, bench.pixels, bench.sizes.worker_shards, repeats)
            figures["two_workers_over_one"] = wall
            if options.json:
                print(json.dumps({name: round(figures[name], 6) for name in TARGETS}), flush=True)
                continue
            rows = detail_rows(bench, seconds, fractions)
            rows.append(("two workers, by CPU time", f"{cpu:.3f}; by wall time {wall:.3f} at a load of {load:.1f} before"))
            rows += crypto_rivals.rows(bench.pixels, key_bits, sizes.repeats, user_seconds)
            if not options.quick:
                rows += crypto_memory.rows(key_bits, options.memory_images, Path(folder))
            show(bench, {name: figures[name] for name in TARGETS}, rows)


if __name__ == "__main__":
    sys.exit(main())
