#!/usr/bin/env bash
# highdicom 0.28.2, `Image.get_frame` of valid single-frame images, without a warning:
#   1. Where Rescale Slope is not 1, a window gets other bounds than DICOM sets. Its width is divided by the slope, so that it counts stored values,
#      and only then is the 1 taken off that the function LINEAR takes off the width (and the half off the centre).
#      Expected: PS3.3 C.11.2.1.2.1, of the values that the modality LUT gives; pydicom 3.0.2 has these bounds.
#      With slope 0.1 a window of width 1, which is a threshold, becomes a ramp over nine stored values; with slope -1 the window grows by 2.
#   2. Bits above Bits Stored are taken for the value: signed values of 12 bits whose cells are filled with zeros come out as 4096 more, and an
#      overlay in the unused bits (retired, but in older files) as 32768 more. Whoever has looked at `pixel_array` of the same object before gets
#      the right values of the same call.
#      Expected: PS3.5 8.1.1, Bits Stored is the number of bits that hold the value; so does pydicom.
# Exits non-zero when one of them changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
"$folder/venv/bin/python" -W error - "$folder/image.dcm" <<'PYTHON'
import sys

import highdicom
import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

path, changed = sys.argv[1], []


def write(cells, bits, signed=0, overlay=(), **attributes):
    """Write one row of cells of 16 bits."""
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.Modality, image.ConversionType, image.SeriesNumber, image.InstanceNumber = "OT", "SYN", 1, 1
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(image, keyword, "")
    image.AccessionNumber = image.ReferringPhysicianName = image.PatientOrientation = ""
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = 1, len(cells)
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, bits, bits - 1, signed
    image.add_new("PixelData", "OW", np.array(cells, "<u2").tobytes())
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    for element, vr, value in overlay:
        image.add_new((0x6000, element), vr, value)
    image.save_as(path, enforce_file_format=True)


def report(name, expected, seen, is_wrong):
    print(f"highdicom {highdicom.__version__}, {name}\n  expected: {expected}\n  seen:     {seen}")
    if not is_wrong:
        changed.append(name)


def part(values, centre, width):
    """Return how far each value lies in a window, 0 to 1, by the pseudo code of PS3.3 C.11.2.1.2.1."""
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    inside = [low < value <= high for value in values]
    return [((v - (centre - 0.5)) / (width - 1) + 0.5) if there else float(v > high) for v, there in zip(values, inside)]


pixels = list(range(12))
for slope, centre, width, as_expected in ((1, 6, 7, True), (2, 12, 9, False), (0.1, 0.65, 1, False), (-1, -5, 6, False)):
    write(pixels, 16, RescaleSlope=slope, RescaleIntercept=0, RescaleType="US", WindowCenter=centre, WindowWidth=width)
    expected = np.round(part([slope * pixel for pixel in pixels], centre, width), 2)
    image = pydicom.dcmread(path)
    other = apply_voi_lut(apply_modality_lut(image.pixel_array, image), image).ravel() / (65535 * slope)  # its output range is the rescaled one
    assert np.allclose(other, expected, atol=0.01), "pydicom has the expected bounds"
    seen = np.round(highdicom.imread(path).get_frame(1, apply_voi_transform=True), 2).ravel()
    same = np.allclose(seen, expected, atol=0.011)
    report(f"1. slope {slope}, window {centre} of width {width}", expected.tolist(), seen.tolist(), same == as_expected)

# rows, columns, type, origin, bits allocated, bit position: an overlay in bit 15 of the cells of four pixels
OVERLAY = ((0x10, "US", 1), (0x11, "US", 4), (0x40, "CS", "G"), (0x50, "SS", [1, 1]), (0x100, "US", 16), (0x102, "US", 15))
signed = [-2048, -1, 0, 1, 2047]
for name, cells, is_signed, expected, wrong in (
    ("signed 12 of 16 bits, zeros above", [value & 0xFFF for value in signed], 1, signed, [2048, 4095, 0, 1, 2047]),
    ("12 of 16 bits, an overlay in bit 15", [0x8000, 0x8001, 5, 0x8FFF], 0, [0, 1, 5, 4095], [32768, 32769, 5, 36863]),
):
    write(cells, 12, is_signed, () if is_signed else OVERLAY)
    assert pydicom.dcmread(path).pixel_array.ravel().tolist() == expected
    image = highdicom.imread(path)
    seen = image.get_frame(1).ravel().astype(int).tolist()
    report(f"2. {name}", expected, seen, seen == wrong)
    image.pixel_array
    seen = image.get_frame(1).ravel().astype(int).tolist()
    report(f"2. {name}, after a look at pixel_array", expected, seen, seen == expected)
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
