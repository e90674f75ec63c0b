#!/usr/bin/env bash
# lightphe 0.0.27, Paillier of 1024 bits, and fractions. A scalar's fraction becomes numerator times inverse of the denominator, modulo n: it comes
# back right where a product happens to be whole, and else as an integer of some 300 digits, without a word. A tensor keeps five decimals (`precision`)
# by cutting, so 0.3 comes back as 0.29999, and ten of it add up to 2.9999.
# Expected: encrypt(0.1) -> 0.1 or a refusal, encrypt(10) * 1.05 -> 10.5 or a refusal, [0.3] -> [0.3]. python-paillier 1.5.0 gives these, with the
# exponent that it keeps beside a ciphertext.
# Exits non-zero when one of this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check lightphe==0.0.27 phe==1.5.0
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import version

import lightphe
import phe

scheme = lightphe.LightPHE("Paillier", key_size=1024)
public, private = phe.generate_paillier_keypair(n_length=1024)
changed = False


def show(what, expected, seen, other, holds):
    global changed
    changed |= not holds
    text = f"{seen} " if len(str(seen)) < 30 else f"an integer of {len(str(seen))} digits"
    print(f"lightphe {version('lightphe')}: {what}: expected {expected}, seen {text}; phe {version('phe')}: {other}")


seen = scheme.decrypt(scheme.encrypt(0.1))
show("encrypt(0.1)", 0.1, seen, private.decrypt(public.encrypt(0.1)), len(str(seen)) > 250)
for whole, holds in ((10_000, lambda found: found == 10_500), (10, lambda found: len(str(found)) > 250)):
    seen = scheme.decrypt(scheme.encrypt(whole) * 1.05)
    show(f"encrypt({whole}) * 1.05", whole * 1.05, seen, private.decrypt(public.encrypt(whole) * 1.05), holds(seen))
tensor = scheme.encrypt([0.3])
seen = scheme.decrypt(tensor)
show("encrypt([0.3])", [0.3], seen, [private.decrypt(public.encrypt(0.3))], seen == [0.29999])
total = tensor
for _ in range(9):
    total = total + tensor
seen = [round(value, 9) for value in scheme.decrypt(total)]
show("ten times encrypt([0.3]), added", [3.0], seen, [round(private.decrypt(sum([public.encrypt(0.3)] * 10)), 9)], seen == [2.9999])
sys.exit("something changed" if changed else 0)
PYTHON
