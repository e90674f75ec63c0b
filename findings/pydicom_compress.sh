#!/usr/bin/env bash
# pydicom 3.0.2, `Dataset.compress` of two valid images, without a warning. Its documentation says that without an array it compresses the pixels that
# the data set has, here without loss, and its guide to RLE Lossless has the parameters of both images in the table of valid ones.
#   1. RGB in separate planes (Planar Configuration 1): the planes are taken for interleaved pixels. With RLE Lossless every reader gets a scrambled
#      picture. With JPEG 2000 Lossless pydicom gets the right one, since it makes the same mistake once more, and other readers a scrambled one.
#      Expected: the pixels of before; DICOM PS3.5 G.2 says that the segments of RLE are those of red, green and blue.
#   2. Gray of 16 Bits Allocated and 8 Bits Stored, RLE Lossless: one segment is written where PS3.5 G.2 asks for one for each allocated byte, and
#      what has become of the file is refused by pydicom and by SimpleITK. The pixels are gone, for the data set is changed in place.
# With `compress(..., arr=image.pixel_array)` the streams of 1 are right, but pydicom, and it alone, scrambles that of JPEG 2000; 2 is the same.
# Exits non-zero when one of this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6 simpleitk==2.5.7 \
    pylibjpeg==2.1.0 pylibjpeg-openjpeg==2.6.0
"$folder/venv/bin/python" -W error - "$folder/image.dcm" <<'PYTHON'
import sys

import numpy as np
import pydicom
import SimpleITK
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, SecondaryCaptureImageStorage, generate_uid

path, changed = sys.argv[1], []


def image_of(pixels, bits_stored, planes=None):
    """Return a native image of (height, width) or (height, width, 3) pixels; `planes` is Planar Configuration."""
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.Modality, image.ConversionType, image.SeriesNumber, image.InstanceNumber = "OT", "SYN", 1, 1
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(image, keyword, "")
    image.AccessionNumber = image.ReferringPhysicianName = image.PatientOrientation = ""
    image.Rows, image.Columns = pixels.shape[:2]
    image.SamplesPerPixel, image.PhotometricInterpretation = (1, "MONOCHROME2") if planes is None else (3, "RGB")
    if planes is not None:
        image.PlanarConfiguration = planes
    image.BitsAllocated, image.BitsStored, image.HighBit = 8 * pixels.itemsize, bits_stored, bits_stored - 1
    image.PixelRepresentation = 0
    image.add_new("PixelData", "OB" if pixels.itemsize == 1 else "OW", (pixels.transpose(2, 0, 1) if planes else pixels).tobytes())
    assert np.array_equal(image.pixel_array, pixels), "the native image is valid"
    return image


def state(read, pixels):
    """Tell what a reader makes of the file: right, scrambled (other pixels) or refused."""
    try:
        return "right" if np.array_equal(read().reshape(pixels.shape), pixels) else "scrambled"
    except Exception:
        return "refused"


def report(what, image, syntax, expected, arr=None):
    pixels = image.pixel_array
    image.compress(syntax, arr=arr)
    image.save_as(path, enforce_file_format=True)
    seen = (
        state(lambda: pydicom.dcmread(path).pixel_array, pixels),
        state(lambda: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)), pixels),
    )
    print(f"pydicom {pydicom.__version__}, {what}, {syntax.name}: expected right, right; seen by pydicom {seen[0]}, by SimpleITK {seen[1]}")
    if seen != expected:
        changed.append(what)


rows, columns = np.mgrid[:64, :64]
colours = np.stack([4 * rows, 4 * columns, rows + columns], -1).astype(np.uint8)
gray = (2 * rows + columns).astype(np.uint16)
for syntax, expected in ((RLELossless, ("scrambled", "scrambled")), (JPEG2000Lossless, ("right", "scrambled"))):
    report("RGB, interleaved", image_of(colours, 8, 0), syntax, ("right", "right"))
    report("RGB in planes", image_of(colours, 8, 1), syntax, expected)
for syntax, expected in ((RLELossless, ("right", "right")), (JPEG2000Lossless, ("scrambled", "right"))):
    report("RGB in planes, as arr too", image_of(colours, 8, 1), syntax, expected, arr=colours)
report("12 bits in 16", image_of(gray, 12), RLELossless, ("right", "right"))
report("8 bits in 16", image_of(gray, 8), RLELossless, ("refused", "refused"))
report("8 bits in 16, as arr too", image_of(gray, 8), RLELossless, ("refused", "refused"), arr=gray)
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
