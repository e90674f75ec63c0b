#!/usr/bin/env bash
# pydicom 3.0.2, `apply_voi_lut` after `apply_modality_lut`, as its documentation says, on two valid images:
#   1. A window after a negative Rescale Slope turns the picture over: the values above the window become the darkest, those below it the
#      brightest, for the output range is that of the stored values, rescaled, and its greatest end is then the lower one.
#      Expected: DICOM PS3.3 C.11.2.1.2.1, what is above the window gets the greatest output. highdicom 0.28.2 shows it so.
#   2. A VOI LUT whose first value is negative, in Implicit VR, of unsigned pixels with a negative Rescale Intercept, as in CT: a black picture.
#      The file does not hold the VR; pydicom takes that of the pixels, so that the first value, -1024, is read as 64512.
#      Expected: PS3.3 C.11.2.1.1, it is SS where the range after rescaling may be signed. The same table in Explicit VR is read right.
#      In either VR pydicom warns of rescaled values being floats, no more.
# Exits non-zero when one of them changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 highdicom==0.28.2 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder/image.dcm" <<'PYTHON'
import sys

import highdicom
import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

path, changed = sys.argv[1], []


def write(pixels, syntax=ExplicitVRLittleEndian, **attributes):
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.Modality, image.ConversionType, image.SeriesNumber, image.InstanceNumber = "OT", "SYN", 1, 1
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(image, keyword, "")
    image.AccessionNumber = image.ReferringPhysicianName = image.PatientOrientation = ""
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = 1, len(pixels)
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.add_new("PixelData", "OW", np.array(pixels, "<u2").tobytes())
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    image.save_as(path, enforce_file_format=True)


def shown():
    """Return what pydicom shows, from 0 (its darkest) to 1; a picture of one gray level is all 0."""
    image = pydicom.dcmread(path)
    gray = apply_voi_lut(apply_modality_lut(image.pixel_array, image), image).astype(float).ravel()
    return np.round((gray - gray.min()) / (np.ptp(gray) or 1), 3).tolist()


def report(name, expected, seen, wrong):
    print(f"pydicom {pydicom.__version__}, {name}\n  expected: {expected}\n  seen:     {seen}")
    if seen != wrong:
        changed.append(name)


pixels = [0, 1000, 1500, 2000, 2500, 3000, 4095]
for slope, intercept, centre in ((1, 0, 2000.5), (-1, 4095, 2095.5)):  # a window of the stored values 1000 to 3000
    values = np.array(pixels) * slope + intercept
    expected = np.round(np.clip((values - (centre - 0.5)) / 2000 + 0.5, 0, 1), 3).tolist()
    write(pixels, RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US", WindowCenter=centre, WindowWidth=2001)
    other = highdicom.imread(path).get_frame(1, apply_voi_transform=True).ravel()
    assert np.allclose(other, expected, atol=0.002), "highdicom shows it as expected"
    report(f"1. window, Rescale Slope {slope}", expected, shown(), expected if slope > 0 else [1 - gray for gray in expected])

table = pydicom.Dataset()
table.add_new("LUTDescriptor", "SS", [4096, -1024, 16])
table.add_new("LUTData", "OW", (np.arange(4096) * 16).astype("<u2").tobytes())
expected = np.round(np.array(pixels) / 4095, 3).tolist()
for syntax, wrong in ((ExplicitVRLittleEndian, expected), (ImplicitVRLittleEndian, [0.0] * len(pixels))):
    write(pixels, syntax, RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU", VOILUTSequence=[table])
    report(f"2. VOI LUT from -1024, {syntax.name}", expected, shown(), wrong)
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
