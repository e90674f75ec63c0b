#!/usr/bin/env bash
# Pillow reads three kinds of valid files without an error and with other pixels than they hold:
#   1. TIFF, 16-bit RGB in separate planes (PlanarConfiguration 2), uncompressed: the bytes of a plane are taken for its pixels.
#      The same file with deflate compression is read right.
#   2. TIFF, 8-bit signed samples (SampleFormat 2): taken for unsigned, -1 becomes 255.
#   3. PNG, gray of 2 or 4 bits with tRNS: pixels are scaled to 8 bits, the transparent value is not, so another or no gray level is
#      transparent (PNG specification, third edition, 11.3.1.1: the value is in the image's bit depth).
# Exits non-zero when one of them changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6 tifffile==2026.3.3
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import sys
import zlib

import numpy as np
import PIL
import tifffile
from PIL import Image


def read(content):
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image


def tiff(pixels, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    assert np.array_equal(tifffile.imread(io.BytesIO(buffer.getvalue())), pixels), "the file is valid: another reader gives its pixels"
    return buffer.getvalue()


changed = []


def report(name, expected, seen, is_wrong):
    print(f"{name}\n  expected: {expected}\n  seen:     {seen}")
    if not is_wrong:
        changed.append(name)


print(f"Pillow {PIL.__version__}, tifffile {tifffile.__version__}")
ramp = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024) + 7
planes = np.stack([ramp, ramp[::-1], ramp.T])  # (3, height, width)
top = np.moveaxis(planes >> 8, 0, 2)
for compression in (None, "zlib"):
    seen = np.asarray(read(tiff(planes, photometric="rgb", planarconfig="separate", compression=compression)))
    same = np.array_equal(seen, top)
    wrong = not same if compression is None else same
    report(f"1. 16-bit planar RGB TIFF, compression {compression}", top[0, :4, 0].tolist(), seen[0, :4, 0].tolist(), wrong)

signed = np.array([[-128, -1, 0, 127]], np.int8)
seen = np.asarray(read(tiff(signed, photometric="minisblack")))
report("2. 8-bit signed TIFF", f"{signed.tolist()}, or an error", seen.tolist(), seen.tolist() == [[128, 255, 0, 127]])


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0))  # four pixels of 2 bits: 0, 1, 2, 3
png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", struct.pack(">H", 1)) + chunk(b"IDAT", zlib.compress(b"\0\x1b")) + chunk(b"IEND", b"")
seen = np.asarray(read(png).convert("RGBA"))[0, :, 3].tolist()
report("3. 2-bit gray PNG, value 1 transparent: alpha", [255, 0, 255, 255], seen, seen == [255] * 4)

sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
