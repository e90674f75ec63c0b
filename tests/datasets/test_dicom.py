"""DICOM files: the same pixels as the picture in another format; windows, look-up tables and inversion as the standard says."""

import sys

import numpy as np
import pytest

from ppdl.datasets.image_io import BadImageError, is_dicom, is_image_file, read_gray, read_gray_bytes
from ppdl.errors import DataError

pydicom = pytest.importorskip("pydicom")


@pytest.fixture
def write_dicom(tmp_path):
    """Give a function that writes (height, width) or (height, width, 3) pixels with any further attributes."""

    def write(pixels, name="a.dcm", *, frames=1, **attributes):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
        dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
        if pixels.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        if frames > 1:
            dataset.NumberOfFrames = frames
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelData = pixels.tobytes() * frames
        dataset.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return write


def lut(entries: list[int], first: int, bits: int):
    """Return a VOI LUT sequence."""
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.add_new("LUTData", "US", entries)
    return pydicom.Sequence([item])


def test_8_bits_are_taken_as_they_are(write_dicom, picture):
    assert np.array_equal(read_gray(write_dicom(picture(0))), picture(0))


def test_minimum_is_white_is_inverted(write_dicom, picture):
    assert np.array_equal(read_gray(write_dicom(255 - picture(0), PhotometricInterpretation="MONOCHROME1")), picture(0))


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_the_top_8_stored_bits_stay(write_dicom, picture, bits):
    wide = (picture(0).astype(np.uint16) << (bits - 8)) + 1
    assert np.array_equal(read_gray(write_dicom(wide, BitsStored=bits)), picture(0))


def test_signed_pixels_begin_at_the_least_stored_value(write_dicom, picture):
    signed = (picture(0).astype(np.int16) << 4) - 2048
    assert np.array_equal(read_gray(write_dicom(signed, BitsStored=12)), picture(0))


def test_a_rescale_slope_below_zero_turns_the_picture_over(write_dicom, picture):
    path = write_dicom(255 - picture(0), RescaleSlope=-1, RescaleIntercept=255)
    assert np.array_equal(read_gray(path), picture(0))


def test_the_whole_window_changes_nothing(write_dicom, picture):
    assert np.array_equal(read_gray(write_dicom(picture(0), WindowCenter=128, WindowWidth=256)), picture(0))


def test_a_window_follows_the_standard(write_dicom):
    """PS3.3 C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * range, clipped; here after the rescale."""
    stored = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    path = write_dicom(stored, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=[1500, 1], WindowWidth=[2001, 9])
    value = 2.0 * stored - 1000
    expected = np.clip((value - 1499.5) / 2000 + 0.5, 0, 1) * 65535 // 256
    gray = read_gray(path)
    assert np.array_equal(gray, expected)
    assert gray.min() == 0 and gray.max() == 255


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_look_up_table_goes_before_the_window(write_dicom, bits):
    """4096 entries of 8 bits: pydicom alone would wrap the index."""
    stored = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    entries = [(4095 - value) >> 12 - bits if bits <= 12 else (4095 - value) << bits - 12 for value in range(4096)]
    path = write_dicom(stored, BitsStored=12, VOILUTSequence=lut(entries, 0, bits), WindowCenter=1, WindowWidth=9)
    assert np.array_equal(read_gray(path), (4095 - stored) >> 4)


def test_a_look_up_table_starts_at_its_first_value(write_dicom):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    gray = read_gray(write_dicom(stored, VOILUTSequence=lut(list(range(0, 256, 2)), 64, 8)))
    assert np.array_equal(gray, np.clip(stored.astype(int) - 64, 0, 127) * 2)


def test_a_modality_look_up_table_sets_the_range(write_dicom):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = write_dicom(stored, ModalityLUTSequence=lut([value * 257 for value in reversed(range(256))], 0, 16))
    assert np.array_equal(read_gray(path), 255 - stored)


def test_colour_becomes_luma(write_dicom, picture):
    assert np.array_equal(read_gray(write_dicom(np.repeat(picture(0)[..., None], 3, axis=2))), picture(0))


def test_compressed_pixels_are_read(write_dicom, picture):
    path = write_dicom(picture(0))
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(path)
    assert np.array_equal(read_gray(path), picture(0))


def test_a_bare_uid_is_dicom_by_its_mark(write_dicom, picture):
    path = write_dicom(picture(0), "1.2.840.113")
    assert is_dicom(path) and is_image_file(path)
    assert np.array_equal(read_gray(path), picture(0))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"frames": 2}, "holds 2 frames; give each picture its own file"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "photometric interpretation PALETTE COLOR is not supported"),
        ({"WindowCenter": 10, "WindowWidth": 0}, "unreadable DICOM: ValueError: .*Window Width"),
        ({"WindowCenter": 9000, "WindowWidth": 10}, "constant: every pixel is 0"),
        ({"Rows": 9000, "Columns": 9000}, "too large: 9000 x 9000 pixels"),
        ({"Rows": 900}, "unreadable DICOM: ValueError"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(attributes, reason, write_dicom, picture):
    with pytest.raises(BadImageError, match=reason):
        read_gray(write_dicom(picture(0), **attributes))


def test_deep_pixels_in_few_levels_are_refused(write_dicom, picture):
    with pytest.raises(BadImageError, match="too dark to keep: 16-bit pixels that use only"):
        read_gray(write_dicom(picture(0).astype(np.uint16) * 13))


def test_damage_is_refused(write_dicom, picture, tmp_path):
    whole = write_dicom(picture(0)).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-500])
    (tmp_path / "text.dcm").write_text("no image")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    del dataset.PixelData
    dataset.save_as(tmp_path / "report.dcm")
    for name, reason in (
        ("cut", "unreadable DICOM: "),
        ("text", "unreadable DICOM: InvalidDicomError"),
        ("report", "a DICOM file without pixels"),
    ):
        with pytest.raises(BadImageError, match=reason):
            read_gray(tmp_path / f"{name}.dcm")


def test_without_pydicom_the_extra_is_named(write_dicom, picture, monkeypatch):
    path = write_dicom(picture(0))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"DICOM images need an extra: run `pip install ppdl\[dicom\]`") as raised:
        read_gray(path)
    assert not isinstance(raised.value, BadImageError)  # the whole set cannot be read: never dropped as one bad file


def test_the_content_of_a_file_is_read_as_the_file(write_dicom, picture):
    path = write_dicom(picture(3))
    np.testing.assert_array_equal(read_gray_bytes(path.read_bytes()), read_gray(path))
