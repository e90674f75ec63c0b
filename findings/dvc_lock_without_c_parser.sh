#!/usr/bin/env bash
# DVC 3.67.1 reads dvc.lock and params.yaml with ruamel.yaml's safe loader, which takes the C parser of ruamel.yaml.clib when that is there.
# ruamel.yaml up to 0.18 required it on CPython; 0.19.1 names it as an extra alone, so that `pip install dvc` brings none any more, and
# nothing says so. A lock of 3,000 lines, which `dvc repro` reads before and after each stage, then takes several times as long to read.
# Expected: the same reader after a plain `pip install dvc` as before. Seen: none until ruamel.yaml.clib is installed by hand.
# Exits non-zero when one of this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/read.py" <<'PYTHON'
import importlib.util
import sys
import time

from dvc import __version__
from dvc.utils.serialize import parse_yaml

deps = "".join(f"    - path: data/part_{i}.csv\n      hash: md5\n      md5: {i:032x}\n      size: {i}\n" for i in range(25))
lock = "schema: '2.0'\nstages:\n" + "".join(f"  stage_{k}:\n    cmd: run {k}\n    deps:\n{deps}" for k in range(30))
parse_yaml("a: 1", "warm")
start = time.process_time()
assert len(parse_yaml(lock, "dvc.lock")["stages"]) == 30
seconds = time.process_time() - start
found = importlib.util.find_spec("_ruamel_yaml") is not None
print(f"dvc {__version__}, C parser {found}: {lock.count(chr(10)):,} lines in {seconds:.2f} s of CPU time", file=sys.stderr)
print(int(found), seconds)
PYTHON
install() { "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
install dvc==3.67.1 ruamel.yaml==0.19.1
plain=$("$folder/venv/bin/python" "$folder/read.py")
install ruamel.yaml.clib==0.2.15
with_parser=$("$folder/venv/bin/python" "$folder/read.py")
python3 - $plain $with_parser <<'PYTHON'
import sys

before, slow, after, fast = map(float, sys.argv[1:])
ratio = slow / fast
print(f"C parser after pip install dvc: {bool(before)}, with ruamel.yaml.clib: {bool(after)}; {ratio:.1f} times the CPU time without it")
sys.exit(None if (before, after) == (0, 1) and ratio > 2 else "this changed")
PYTHON
