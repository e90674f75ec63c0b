#!/usr/bin/env bash
# pydicom 3.0.2, GDCM 3.2.6 and SimpleITK 2.5.7 read a valid DICOM file whose High Bit is not Bits Stored - 1 without a word, and all three give the
# same wrong pixels: they take the lowest Bits Stored bits of a cell, wherever High Bit says that the value ends.
# Expected: DICOM PS3.5 8.1.1 (High Bit places the stored bits in the allocated ones; its own example has 16 bits allocated, 12 stored and bit 15 as
# the high bit, so that the 4 lowest bits hold no pixel data). A Secondary Capture Image does not restrict it.
# Seen: with 12 bits up to bit 15, the top 4 bits of a value are lost and the rest is times 16: 2047 is read as 4080, and as -16 where it is signed.
# dcmtk's dcm2pnm reads such a file right, so the readers that agree are wrong here. The same values with High Bit 11 are read right by all three.
# Exits non-zero when one of this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 python-gdcm==3.2.6 simpleitk==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/image.dcm" <<'PYTHON'
import sys

import gdcm
import numpy as np
import pydicom
import SimpleITK
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

path, changed = sys.argv[1], []


def write(values, bits, high_bit):
    """Put each value (one row of them) into a cell of 16 bits, so that it ends at `high_bit`; the bits around it are 0."""
    cells = ((values & (1 << bits) - 1) << high_bit + 1 - bits).astype("<u2")
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
    image.Rows, image.Columns = 1, len(values)
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, bits, high_bit
    image.PixelRepresentation = int(values.min() < 0)
    image.add_new("PixelData", "OW", cells.tobytes())
    image.save_as(path, enforce_file_format=True)


def by_pydicom():
    return pydicom.dcmread(path).pixel_array


def by_gdcm():
    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    assert reader.Read()
    kind = {gdcm.PixelFormat.UINT16: np.uint16, gdcm.PixelFormat.INT16: np.int16}[reader.GetImage().GetPixelFormat().GetScalarType()]
    return np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"), kind)


def by_simpleitk():
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))


READERS = {f"pydicom {pydicom.__version__}": by_pydicom, f"GDCM {gdcm.GDCM_VERSION}": by_gdcm, f"SimpleITK {SimpleITK.__version__}": by_simpleitk}
for values, wrong in (
    ([0, 1, 255, 256, 2047, 4095], [0, 16, 4080, 0, 4080, 4080]),
    ([-2048, -1, 0, 1, 100, 2047], [0, -16, 0, 16, 1600, -16]),
):
    for high_bit in (11, 15):
        write(np.array(values), 12, high_bit)
        for name, read in READERS.items():
            seen = read().ravel().tolist()
            print(f"{name}, 12 of 16 bits, High Bit {high_bit}: expected {values}, seen {seen}")
            if seen != (values if high_bit == 11 else wrong):
                changed.append(name)
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
