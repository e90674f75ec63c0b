# ruff: noqa: E501  # a mutant a line
"""Change the vector kernel and its programs in one place at a time, and see whether a test notices.

    python -m tests.soak.kernel_mutants --out tests/soak/results/kernel_mutants.json    # some ten minutes on one core
    python -m tests.soak.kernel_mutants --only 3 17                                     # some of them

The drawn mutants of tests.soak.mutants change Python alone; what an emitted instruction or a program's step gets wrong is listed here. Each
is applied to a copy of the package, with a cache of machine code of its own, and the kernel's tests are run until one fails. A process
that dies counts as noticed. Without a mutant the tests must pass.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ppdl.crypto.arithmetic.vector.compiled import missing_features

PROJECT = Path(__file__).parents[2]
KERNEL, TESTS = "ppdl/crypto/arithmetic/vector", "tests/crypto/arithmetic/vector"
TIMEOUT_S = 600

# file of the kernel, what stands there once, and what takes its place
MUTANTS = [
    ("emit.py", 'half in "lh")', 'half in "hl")'),
    ("emit.py", "((self.low, 0), (self.high, 1)):\n                for j in range(TILE):\n                    self.collect(half, columns[i + j + shift], digit, ys[j])", "((self.low, 0), (self.high, 0)):\n                for j in range(TILE):\n                    self.collect(half, columns[i + j + shift], digit, ys[j])"),
    ("emit.py", "digit = self.get(x, i)\n            for half", "digit = self.get(x, 0)\n            for half"),
    ("emit.py", "for j in range(i + 1, TILE):", "for j in range(i, TILE):"),
    ("emit.py", "for j in range(i + 1, TILE):", "for j in range(i + 2, TILE):"),
    ("emit.py", "self.collect(self.low, columns[2 * j], digit, digit)", "pass"),
    ("emit.py", "self.collect(self.high, columns[2 * j + 1], digit, digit)", "self.collect(self.high, columns[2 * j], digit, digit)"),
    ("emit.py", "_word(self.tiles if upper else 0)", "_word(self.tiles + 1 if upper else 0)"),
    ("emit.py", "first = b.mul(b.add(b.sub(s, _word(self.tiles)), _word(1)), ten)", "first = b.mul(b.sub(s, _word(self.tiles)), ten)"),
    ("emit.py", "first = b.mul(b.add(b.sub(s, _word(self.tiles)), _word(1)), ten)", "first = b.mul(b.add(b.sub(s, _word(self.tiles)), _word(2)), ten)"),
    ("emit.py", "end = _word(self.k) if upper else b.add(place, ten)", "end = _word(self.k) if upper else place"),
    ("emit.py", "middle = b.ashr(place, _word(1))", "middle = b.ashr(place, _word(2))"),
    ("emit.py", "with self.loop(first, middle, TILE) as i:", "with self.loop(first, end, TILE) as i:"),
    ("emit.py", 'b.icmp_signed("==", b.and_(s, _word(1)), _word(0))', 'b.icmp_signed("==", b.and_(s, _word(1)), _word(1))'),
    ("emit.py", "if square or double:", "if square:"),
    ("emit.py", "if square or double:", "if double:"),
    ("emit.py", "b.store(b.add(b.load(columns[j]), self.get(over, j)), columns[j])", "pass"),
    ("emit.py", "if minus is not None and not upper:", "if minus is not None and upper:"),
    ("emit.py", "if minus is not None and not upper:", "if False:"),
    ("emit.py", "b.store(b.sub(b.load(columns[j]), self.get(self.at(minus, place), j)), columns[j])", "b.store(b.add(b.load(columns[j]), self.get(self.at(minus, place), j)), columns[j])"),
    ("emit.py", "with self.loop(first, end if upper else place, TILE) as i:", "with self.loop(first, place, TILE) as i:"),
    ("emit.py", "self.put(over, j, b.load(columns[TILE + j]))", "self.put(over, j, self.zero)"),
    ("emit.py", "for j in range(TILE):\n            self.put(over, j, self.zero)", "for j in range(TILE):\n            self.put(over, j, self.mask)"),
    ("emit.py", "digit = b.call(self.low, [self.zero, b.load(columns[d]), negative_inverse])", "digit = b.call(self.low, [self.mask, b.load(columns[d]), negative_inverse])"),
    ("emit.py", "self.collect(half, columns[d + j + shift], digit, lowest[j])\n            self.carry(columns[d], columns[d + 1])", "self.collect(half, columns[d + j + shift], digit, lowest[j])"),
    ("emit.py", "self.builder.and_(self.builder.load(columns[d]), self.mask))\n            self.carry(columns[d], columns[d + 1])", "self.builder.and_(self.builder.load(columns[d]), self.mask))"),
    ("emit.py", "self.put(out, d, self.builder.and_(self.builder.load(columns[d]), self.mask))", "self.put(out, d, self.builder.load(columns[d]))"),
    ("emit.py", "b.store(b.add(b.load(into), b.ashr(b.load(column), self.radix)), into)", "b.store(b.ashr(b.load(column), self.radix), into)"),
    ("emit.py", "mixed = [(x, high_x)] if square else [(x, high_y), (high_x, y)]", "mixed = [(x, high_x)] if square else [(x, high_y)]"),
    ("emit.py", "mixed = [(x, high_x)] if square else [(x, high_y), (high_x, y)]", "mixed = [(high_x, high_x)] if square else [(x, high_y), (high_x, y)]"),
    ("emit.py", "minus=quotient, double=square)", "minus=quotient)"),
    ("emit.py", "self.put(c, i, self.get(low, i))", "self.put(c, i, self.get(quotient, i))"),
    ("emit.py", "low, quotient, unused = (self.variable(_VECTOR, k) for _ in range(3))", "quotient, unused = (self.variable(_VECTOR, k) for _ in range(2))\n        low = c"),
    ("emit.py", "self.put(c, i, b.and_(total, self.mask))", "self.put(c, i, total)"),
    ("emit.py", "b.store(b.ashr(total, self.radix), rest)", "b.store(self.zero, rest)"),
    ("emit.py", "with self.loop(_word(0), _word(2 * self.k)) as i:", "with self.loop(_word(0), _word(self.k)) as i:"),
    ("emit.py", 'keep = b.sext(b.icmp_signed("==", i, wanted), _I64)', 'keep = b.sext(b.icmp_signed(">=", i, wanted), _I64)'),
    ("emit.py", "b.store(self.zero, found)\n            with self.loop(_word(0), num_entries)", "with self.loop(_word(0), num_entries)"),
    ("emit.py", "for size in (4, 2, 1):", "for size in (4, 2):"),
    ("emit.py", "for place, side in ((i, 0), (i | size, size)):", "for place, side in ((i, size), (i | size, 0)):"),
    ("emit.py", "self.transposed(words)[: 2 * self.k - first]", "self.transposed(words)[: 2 * self.k - first - 1]"),
    ("emit.py", 'b.icmp_signed("==", x, y)) as (same, different):', 'b.icmp_signed("!=", x, y)) as (same, different):'),
    ("emit.py", "window = self.at(table, b.mul(b.mul(x, num_entries), row_words))", "window = self.at(table, b.mul(x, row_words))"),
    ("emit.py", "b.add(b.mul(x, digits_stride), b.mul(y, _word(LANES)))", "b.mul(y, _word(LANES))"),
    ("digits.py", "digits[:, :, 1] >>= np.uint64(4)", "digits[:, :, 1] >>= np.uint64(0)"),
    ("digits.py", "digits[:, :, 0] &= _MASK", "pass"),
    ("digits.py", "words[..., 0] = low | high << np.uint64(RADIX_BITS)", "words[..., 0] = low"),
    ("digits.py", "_SLACK_BITS = 8", "_SLACK_BITS = 2"),
    ("ring.py", "-gmpy2.invert(self.m, 1 << RADIX_BITS)", "gmpy2.invert(self.m, 1 << RADIX_BITS)"),
    ("ring.py", "self.r**2 % self.square", "self.r % self.square"),
    ("ring.py", "self._piece_bytes = self.m.bit_length() // 8", "self._piece_bytes = self.m.bit_length() // 8 + 3"),
    ("ring.py", "return -(-num_bytes // self._piece_bytes)", "return num_bytes // self._piece_bytes"),
    ("ring.py", "mpz(1) << 8 * self._piece_bytes * i for i", "mpz(1) << 8 * self._piece_bytes * (i + 1) for i"),
    ("ring.py", "self.num_digits)[:, ::-1]", "self.num_digits)"),
    ("ring.py", "(LOAD, scratch, row + i, num_pieces)", "(LOAD, scratch, row, num_pieces)"),
    ("ring.py", "(ADD, number, number, scratch)", "(ADD, number, scratch, scratch)"),
    ("ring.py", "number - self.square if number >= self.square else number", "number"),
    ("ring.py", "number - self.square if number >= self.square else number", "number - self.square if number > self.square else number"),
    ("power.py", "(MULTIPLY, table, _UNIT, _UNIT)", "(MULTIPLY, table, _UNIT, _ONE)"),
    ("power.py", "(MULTIPLY, table + 1, table + 1, _INTO)", "(MULTIPLY, table + 1, table + 1, _UNIT)"),
    ("power.py", "(MULTIPLY, table, table, _INTO)", "(MULTIPLY, table, table, _UNIT)"),
    ("power.py", "* bits + [(SELECT", "* (bits - 1) + [(SELECT"),
    ("power.py", "return [*steps, (MULTIPLY, power, held, _ONE), (STORE, power, 0, 1)]", "return [*steps, (MULTIPLY, power, held, _UNIT), (STORE, power, 0, 1)]"),
    ("power.py", "held = entry if held < 0 else power", "held = power"),
    ("fixed_base.py", "base = gmpy2.powmod(base, 1 << width, ring.square)", "base = gmpy2.powmod(base, 2 << width, ring.square)"),
    ("fixed_base.py", "range(1, num_windows)]", "range(2, num_windows)]"),
    ("fixed_base.py", "digits=ahead[:, start:]", "digits=ahead"),
    ("fixed_base.py", "last[:, 0] = 1", "last[:, 0] = 2"),
    ("linear.py", "products[i - 1] if i else _PLACES", "products[i - 1] if i else _ONE"),
    ("linear.py", "after.append((MULTIPLY, inverse, inverse, source))", "pass"),
    ("linear.py", "ring.cut(plane, pieces[:num_groups])", "ring.cut(plane[::-1], pieces[:num_groups])"),
    ("linear.py", "self._inputs[:, num_groups:, 0, 0] = 1", "pass"),
    ("linear.py", "[[ring.r % ring.square]] * plan.num_inputs", "[[mpz(1)]] * plan.num_inputs"),
    ("linear.py", "first_factor + j)", "first_factor)"),
    ("linear.py", "(j * _BLOCKS + b) * LANES, 1)", "(j * _BLOCKS) * LANES, 1)"),
    ("multiexp.py", "return np.where(digits >= 0, digits, half - digits)", "return np.abs(digits)"),
    ("multiexp.py", "self._power_bits // bits + 1", "self._power_bits // bits"),
    ("multiexp.py", "len(exponents[0]) + start, power_bits)", "len(exponents[0]), power_bits)"),
    ("multiexp.py", "self._num_rows * self.parts : self.parts]", "self._num_rows]"),
    ("multiexp.py", "* (bits if position else 0)", "* bits"),
    ("multiexp.py", "np.where(digit != 0, (first_base + base)", "np.where(digit != 0, (0 * first_base + base)"),
    ("decryption.py", "return [a1 * h % ring.m for a1", "return [a1 % ring.m for a1"),
    ("decryption.py", "if not units.all():", "if not units.any():"),
    ("decryption.py", "row = first + int(np.argmin(units))", "row = int(np.argmin(units))"),
]  # fmt: skip


def judge(folder: Path) -> int:
    """Run the tests of the copy, and return pytest's exit code; a test that hangs counts as failed."""
    environment = os.environ | {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "PPDL_ENGINE": "vector"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", TESTS]
    try:
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        return 1


def survives(number: int, folder: Path) -> bool:
    """Tell whether no test of the copy notices a mutant."""
    name, old, new = MUTANTS[number]
    path = folder / KERNEL / name
    source = path.read_text()
    if source.count(old) != 1:
        raise SystemExit(f"mutant {number}: {old!r} stands {source.count(old)} times in {name}, not once: the list is out of date")
    path.write_text(source.replace(old, new))
    try:
        return judge(folder) == 0
    finally:
        path.write_text(source)


def main() -> None:
    """Try the mutants, and say which survive."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kernel_mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=int, nargs="+", default=range(len(MUTANTS)), metavar="N")
    parser.add_argument("--out", type=Path, help="where to record what became of them")
    args = parser.parse_args()
    if missing := missing_features():
        print(f"this processor lacks {' and '.join(missing)}: nothing is tried")
        return
    left = []
    with tempfile.TemporaryDirectory(prefix="ppdl-kernel-mutants-") as name:
        folder = Path(name)
        for part in ("ppdl", "tests"):
            shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "results"))
        shutil.copy(PROJECT / "pyproject.toml", folder)
        if judge(folder):
            raise SystemExit(f"{TESTS} fails without any mutant")
        for number in args.only:
            change = f"{MUTANTS[number][0]}: {MUTANTS[number][1].splitlines()[0][:90]}"
            lives = survives(number, folder)
            left += [change] if lives else []
            print(f"{number:3d} {'SURVIVES' if lives else 'killed'}  {change}", flush=True)
    figures = {"listed": len(args.only), "killed": len(args.only) - len(left), "left": left}
    print(f"{figures['killed']} of {figures['listed']} killed")
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
