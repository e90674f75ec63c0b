"""Small DICOM files of every kind, and what dcmtk, an independent reader, shows of them."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


def dataset(pixels: np.ndarray, *, syntax: str = EXPLICIT, **attributes: Any) -> Any:
    """Return a data set of (height, width) or (height, width, 3) pixels with any further attributes."""
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    little = syntax != BIG_ENDIAN
    made.PixelData = pixels.astype(pixels.dtype.newbyteorder("<" if little else ">")).tobytes()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    if "HighBit" not in attributes:
        made.HighBit = made.BitsStored - 1
    if len(made.PixelData) % 2:
        made.PixelData += b"\0"
    made["PixelData"].VR = "OB" if (made.BitsAllocated or 8) <= 8 and syntax != IMPLICIT else "OW"
    return made


def write(made: Any, path: Path) -> Path:
    """Write a data set as a DICOM file."""
    made.save_as(path, enforce_file_format=True)
    return path


def lut(entries: Any, first: int, bits: int, *, first_vr: str = "US", packed: bool = False, syntax: str = EXPLICIT) -> Any:
    """Return a sequence of one look-up table. `packed`: entries of 8 bits, an even number of them, lie two in a word."""
    item = pydicom.Dataset()
    entries = np.asarray(entries)
    item.add_new("LUTDescriptor", first_vr, [len(entries) % 65536, first, bits])
    words = entries.astype(np.uint8 if packed else "<u2").view("<u2")
    item.add_new("LUTData", "OW", words.astype(">u2" if syntax == BIG_ENDIAN else "<u2").tobytes())
    return pydicom.Sequence([item])


def missing(what: str) -> None:
    """Skip the test; fail it in CI, where dcmtk must be."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and CI compares DICOM files with an independent reader")
    pytest.skip(what)


def run_dcmtk(tool: str, *arguments: Any) -> bytes:
    """Run a program of dcmtk."""
    if shutil.which(tool) is None:
        missing(f"no {tool} on the PATH (Debian: apt-get install dcmtk)")
    return subprocess.run([tool, *map(str, arguments)], capture_output=True, check=True, timeout=60).stdout


def shown_by_dcmtk(path: Path, *options: str, tool: str = "dcm2pnm") -> np.ndarray:
    """Return what dcmtk shows of a DICOM file, in 16 bits: (height, width) or (height, width, 3) integers."""
    content = run_dcmtk(tool, "-q", "-O", *options, "+opw", path)  # an ASCII PGM or PPM
    tokens = [token for line in io.BytesIO(content) if not line.startswith(b"#") for token in line.split()]
    width, height = int(tokens[1]), int(tokens[2])
    return np.array(tokens[4:], np.int64).reshape(height, width, *([3] if tokens[0] == b"P3" else []))
