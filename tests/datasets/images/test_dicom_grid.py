"""Gray and colour DICOM files of every kind show what dcmtk shows, an independent reader of the whole display pipeline."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppdl.datasets.images.image_io import read_gray
from tests.datasets.conftest import draw
from tests.datasets.dicom_files import BIG_ENDIAN, EXPLICIT, IMPLICIT, dataset, lut, run_dcmtk, shown_by_dcmtk, write

pydicom = pytest.importorskip("pydicom")

SHOW = {"window": ("+Wi", "1"), "lut": ("+Wl", "1"), "none": ()}
FUNCTIONS = ("", "LINEAR", "SIGMOID")  # dcmtk 3.6.7 takes LINEAR_EXACT for LINEAR, and keeps rescaled values as integers


def gray_case(number: int, photometric: str, bits: int, signed: bool, display: str, syntax: str) -> Any:
    """Return a gray data set; what is not in the grid follows from the number: High Bit, what the other bits hold, rescale, function."""
    allocated, spare = (8, 0) if bits == 8 else (16, 16 - bits)
    shift = (0, spare, spare // 2)[number % 3]
    stored = (draw(number, (20, 24)).astype(np.int64) << bits - 8) + (7 if bits > 8 else 0)  # (height, width), the whole range of `bits`
    rng = np.random.default_rng(number)
    others = rng.integers(0, 1 << allocated, stored.shape) & ~(((1 << bits) - 1) << shift)  # bits that hold no value
    value = (stored - (1 << bits - 1)) & ((1 << bits) - 1) if signed else stored
    cells = ((value << shift) | others).astype(np.uint8 if allocated == 8 else np.uint16)
    rescale = ({}, {"RescaleSlope": 2, "RescaleIntercept": -1024}, {"RescaleSlope": -1, "RescaleIntercept": 100})[number // 3 % 3]
    slope, intercept = float(rescale.get("RescaleSlope", 1)), float(rescale.get("RescaleIntercept", 0))
    ends = sorted(slope * end + intercept for end in ((0, (1 << bits) - 1) if not signed else (-(1 << bits - 1), (1 << bits - 1) - 1)))
    attributes: dict[str, Any] = {}
    if display == "window":
        middle, width = sum(ends) / 2, ends[1] - ends[0]
        attributes = {"WindowCenter": round(middle + width / 10, 1), "WindowWidth": round(width / 2, 1)}
        attributes["VOILUTFunction"] = FUNCTIONS[number % 3]
    if display == "lut":
        first = int(np.clip(ends[0] + (ends[1] - ends[0]) / 4, -32768, 32767))  # what a LUT Descriptor can hold
        depth = (8, 12, 16)[number % 3]
        size = min(int((ends[1] - ends[0]) / 2), 4096)
        entries = np.rint(np.linspace(0, 1, size) ** 2 * (2**depth - 1)).astype(int)
        first_vr = "SS" if ends[0] < 0 else "US"
        attributes = {"VOILUTSequence": lut(entries, first, depth, first_vr=first_vr, packed=depth == 8 and size % 2 == 0, syntax=syntax)}
    facts = {"PhotometricInterpretation": photometric, "PixelRepresentation": int(signed), "BitsStored": bits, "HighBit": bits - 1 + shift}
    return dataset(cells, syntax=syntax, **facts, **rescale, **attributes)


GRID = list(product(("MONOCHROME1", "MONOCHROME2"), (8, 10, 12, 16), (False, True), SHOW, (EXPLICIT, IMPLICIT, BIG_ENDIAN)))


def compare(shown: np.ndarray, gray: np.ndarray) -> tuple[int, float]:
    """Return the greatest difference in 8 bits, and the share of pixels that are the same.

    Args:
        shown: (height, width) or (height, width, 3) uint16, of dcmtk.
    """
    if shown.ndim == 3:
        shown = shown @ [0.299, 0.587, 0.114]
        return int(np.abs(shown / 257 - gray).max().round()), 0.0
    difference = np.abs((shown >> 8) - gray.astype(int))
    return int(difference.max()), float((difference == 0).mean())


def test_gray_files_show_what_dcmtk_shows(tmp_path):
    """Both round to 8 bits in their own way: one level apart, never more."""

    def check(number: int) -> tuple[int, float]:
        path = write(gray_case(number, *GRID[number]), tmp_path / f"{number}.dcm")
        return compare(shown_by_dcmtk(path, *SHOW[GRID[number][3]]), read_gray(path))

    numbers = range(0, len(GRID), 2)  # every second case: half the time, and each value of each axis is still in many
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(numbers, pool.map(check, numbers), strict=True))
    wrong = {GRID[number]: result for number, result in results.items() if result[0] > 1}
    assert not wrong
    assert np.mean([same for _, same in results.values()]) > 0.8


PICTURES = {
    "8 bits": dataset(draw(0)),
    "12 bits": dataset((draw(0).astype(np.uint16) << 4) + 3, BitsStored=12),
    "12 bits, minimum is white": dataset((draw(0).astype(np.uint16) << 4) + 3, BitsStored=12, PhotometricInterpretation="MONOCHROME1"),
    "12 bits, signed": dataset((draw(0).astype(np.int16) << 4) - 2048, BitsStored=12),
    "16 bits": dataset((draw(0).astype(np.uint16) << 8) + 5),
    "colour": dataset(np.dstack([draw(1), draw(2), draw(3)])),
}
CODERS = {  # dcmtk's encoder and the program that shows it
    "RLE": (["dcmcrle"], "dcm2pnm"),
    "JPEG baseline": (["dcmcjpeg", "+eb"], "dcmj2pnm"),
    "JPEG extended": (["dcmcjpeg", "+ee"], "dcmj2pnm"),
    "JPEG lossless": (["dcmcjpeg", "+e1"], "dcmj2pnm"),
    "JPEG-LS": (["dcmcjpls", "+el"], "dcml2pnm"),
}


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("kind", PICTURES)
def test_compressed_files_show_what_dcmtk_shows(kind, coder, tmp_path):
    """dcmtk writes the file, and decodes it with libraries of its own."""
    encoder, shower = CODERS[coder]
    run_dcmtk(*encoder, write(copy.deepcopy(PICTURES[kind]), tmp_path / "plain.dcm"), tmp_path / "a.dcm")
    shown = shown_by_dcmtk(tmp_path / "a.dcm", tool=shower)
    assert compare(shown, read_gray(tmp_path / "a.dcm"))[0] <= 1


@pytest.mark.parametrize("kind", PICTURES)
def test_jpeg_2000_shows_what_the_plain_file_shows(kind, tmp_path):
    """dcmtk does not read it; the plain files are compared with dcmtk above."""
    made = copy.deepcopy(PICTURES[kind])
    plain = read_gray(write(made, tmp_path / "plain.dcm"))
    made.compress(pydicom.uid.JPEG2000Lossless, encoding_plugin="pylibjpeg")
    assert np.array_equal(read_gray(write(made, tmp_path / "a.dcm")), plain)


def colour_case(photometric: str, planar: int) -> Any:
    rgb = np.dstack([draw(1), draw(2), draw(3)])
    values = rgb if photometric == "RGB" else np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    if photometric == "YBR_FULL_422":  # two luma samples, then one of each chroma
        values = np.concatenate([values[:, 0::2, :1], values[:, 1::2, :1], values[:, 0::2, 1:]], axis=2)
    content = (np.moveaxis(values, 2, 0) if planar else values).tobytes()
    return dataset(rgb, PhotometricInterpretation=photometric, PlanarConfiguration=planar, PixelData=content)


@pytest.mark.parametrize(("photometric", "planar"), [("RGB", 0), ("RGB", 1), ("YBR_FULL", 0), ("YBR_FULL", 1), ("YBR_FULL_422", 0)])
def test_colour_files_show_what_dcmtk_shows(photometric, planar, tmp_path):
    path = write(colour_case(photometric, planar), tmp_path / "a.dcm")
    assert compare(shown_by_dcmtk(path), read_gray(path))[0] <= 1


@pytest.mark.parametrize(
    ("pixels", "attributes"),
    [
        (draw(0).astype(np.uint32) << 24 | 77, {}),
        ((draw(0).astype(np.int64) - 128 << 24).astype(np.int32), {}),
        (draw(0) >> 4, {"BitsStored": 4}),
        (draw(0), {"BitsAllocated": 1, "BitsStored": 1, "PixelData": np.packbits(draw(0).ravel() > 127, bitorder="little").tobytes()}),
        (draw(0), {"ModalityLUTSequence": lut(np.linspace(65535, 0, 256).astype(int), 0, 16)}),
        (draw(0), {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}),
        (draw(0), {"PresentationLUTShape": "IDENTITY"}),
        ((draw(0).astype(np.uint16) << 4) + 3, {"BitsStored": 12, "PixelPaddingValue": 3, "PhotometricInterpretation": "MONOCHROME1"}),
    ],
)
def test_rare_files_show_what_dcmtk_shows(pixels, attributes, tmp_path):
    path = write(dataset(pixels, **attributes), tmp_path / "a.dcm")
    assert compare(shown_by_dcmtk(path), read_gray(path))[0] <= 1
