"""DICOM files: the same pixels as the picture in another format; windows, look-up tables and inversion as the standard says."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from ppdl.datasets.images.dicom import is_for_processing
from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.image_io import is_dicom, is_image_file, read_gray, read_gray_bytes
from ppdl.errors import DataError
from tests.datasets.damage import reasons_of_damage
from tests.datasets.dicom_files import EXPLICIT, IMPLICIT, dataset, lut, write

pydicom = pytest.importorskip("pydicom")


@pytest.fixture
def write_dicom(tmp_path):
    """Give a function that writes (height, width) or (height, width, 3) pixels with any further attributes."""

    def write_pixels(pixels, name="a.dcm", *, frames=1, **attributes):
        made = dataset(pixels, **attributes)
        if frames > 1:
            made.NumberOfFrames, made.PixelData = frames, made.PixelData * frames
        return write(made, tmp_path / name)

    return write_pixels


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
        ({"WindowCenter": 10, "WindowWidth": 0}, "Window Width is 0, but must be at least 1"),
        ({"WindowCenter": 9000, "WindowWidth": 10}, "constant: every pixel is 0"),
        ({"Rows": 9000, "Columns": 9000}, "too large: 9000 x 9000 pixels"),
        ({"Rows": 900}, "truncated: 1920 bytes of pixels, where 43200 are needed"),
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
        ("cut", "truncated: 1420 bytes of pixels, where 1920 are needed"),
        ("text", "unreadable: no DICOM file, or its header is damaged"),
        ("report", "a DICOM file without pixels"),
    ):
        with pytest.raises(BadImageError, match=reason):
            read_gray(tmp_path / f"{name}.dcm")


def test_without_pydicom_the_extra_is_named(write_dicom, picture, monkeypatch):
    path = write_dicom(picture(0))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"DICOM images need an extra: run `pip install 'ppdl-paillier\[dicom\]'`") as raised:
        read_gray(path)
    assert not isinstance(raised.value, BadImageError)  # the whole set cannot be read: never dropped as one bad file


def test_the_content_of_a_file_is_read_as_the_file(write_dicom, picture):
    path = write_dicom(picture(3))
    np.testing.assert_array_equal(read_gray_bytes(path.read_bytes()), read_gray(path))


# Bits


def test_the_value_lies_below_high_bit(write_dicom, picture):
    """PS3.5 8.1.1: the value ends at High Bit, wherever that is; other bits hold something else."""
    cells = (picture(0).astype(np.uint16) << 8) | 0b1010  # 8 of 16 bits, from bit 8
    assert np.array_equal(read_gray(write_dicom(cells, BitsStored=8, HighBit=15)), picture(0))


@pytest.mark.parametrize("signed", [0, 1])
def test_overlays_in_the_unused_bits_of_compressed_pixels_are_ignored(signed, write_dicom, picture, tmp_path):
    values = picture(0).astype(np.uint16) << 4
    values = (values ^ 2048) if signed else values
    made = pydicom.dcmread(write_dicom(values | np.where(picture(1) > 128, 0x1000, 0).astype(np.uint16), BitsStored=16))
    made.compress(pydicom.uid.JPEG2000Lossless, encoding_plugin="pylibjpeg")
    made.BitsStored, made.HighBit, made.PixelRepresentation = 12, 11, signed
    made.WindowCenter, made.WindowWidth = 0 if signed else 2048, 4096
    assert np.array_equal(read_gray(write(made, tmp_path / "b.dcm")), picture(0))


def test_bits_beyond_bits_stored_in_lossy_pixels_are_refused(write_dicom, picture, tmp_path):
    """A coder's error just above the greatest value would come out black."""
    made = pydicom.dcmread(write_dicom((picture(0).astype(np.uint16) << 4) + 256))
    made.compress(pydicom.uid.JPEG2000, j2k_cr=[4], encoding_plugin="pylibjpeg")
    made.BitsStored, made.HighBit = 12, 11
    with pytest.raises(BadImageError, match="lossy compressed pixels have 16 bits, but Bits Stored is 12"):
        read_gray(write(made, tmp_path / "b.dcm"))


def test_a_stream_of_fewer_bits_sets_the_range(write_dicom, picture, tmp_path):
    """12 bits in a JPEG 2000 stream under Bits Stored 16: the stream cannot hold more (PS3.5 8.2.4)."""
    made = pydicom.dcmread(write_dicom(picture(0).astype(np.uint16) << 4, BitsStored=12))
    made.compress(pydicom.uid.JPEG2000Lossless, encoding_plugin="pylibjpeg")
    made.BitsStored, made.HighBit = 16, 15
    assert np.array_equal(read_gray(write(made, tmp_path / "b.dcm")), picture(0))
    made.PixelRepresentation = 1
    with pytest.raises(BadImageError, match="signed pixels of 16 bits in a compressed stream of 12 bits are ambiguous"):
        read_gray(write(made, tmp_path / "b.dcm"))


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
@pytest.mark.parametrize("signed", [False, True])
def test_values_that_need_fewer_bits_are_refused(bits, signed, write_dicom, picture):
    values = picture(0).astype(np.int64) << (bits - 8)
    values = (values - (1 << bits - 1)).astype(np.int16) if signed else values.astype(np.uint16)
    with pytest.raises(BadImageError, match=f"too dark to keep: 16-bit pixels that use only {values.min()} to {values.max()}, .*a window"):
        read_gray(write_dicom(values))
    values[0, :3] = -(1 << 15) if signed else (1 << 16) - 1
    with pytest.raises(BadImageError, match="too dark to keep"):  # padding is no value
        read_gray(write_dicom(values, PixelPaddingValue=int(values[0, 0])))


def test_a_window_that_does_not_fit_the_values_is_refused(write_dicom, picture):
    values = picture(0).astype(np.uint16) << 4
    found = r"the window \(center 32768, width 65536\) shows the values 0 to 4080 as 0 to 4080 of 65535"
    with pytest.raises(BadImageError, match=f"too dark to keep: {found}, which is 16 gray levels in 8 bits; give it a window that fits"):
        read_gray(write_dicom(values, BitsStored=12, WindowCenter=32768, WindowWidth=65536))
    with pytest.raises(BadImageError, match=r"too flat to keep: the window \(center 2048, width 4096\) shows the values 2000 to 2127"):
        read_gray(write_dicom(2000 + (values >> 5), BitsStored=12, WindowCenter=2048, WindowWidth=4096))


def test_a_table_of_8_bits_that_shows_12_bits_all_but_black_is_refused(write_dicom):
    """Here 4 bits in 8."""
    sequence = lut(np.arange(4096) >> 8, 0, 8)
    with pytest.raises(BadImageError, match="too dark to keep: the VOI LUT shows the values 0 to 4080 as 0 to 15 of 255"):
        read_gray(write_dicom(stored_ramp(), BitsStored=12, VOILUTSequence=sequence))


# Tables and windows


def stored_ramp():
    return np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)


@pytest.mark.parametrize(
    ("sequence", "reason"),
    [
        (lut(range(0, 65536, 16), 0, 12), "has entries up to 65520, which its LUT Descriptor contradicts: 12 bits"),
        (lut(range(4096), 0, 16), "has entries up to 4095 only, though its LUT Descriptor says 16 bits.*if the entries have 12 bits"),
        (lut(range(4096), 0, 20), "must have a LUT Descriptor of three numbers, the last 8 to 16 bits"),
        (lut(range(4096), 0, 0), "must have a LUT Descriptor of three numbers, the last 8 to 16 bits"),
    ],
)
@pytest.mark.parametrize("where", ["VOI", "Modality"])
def test_a_table_that_contradicts_its_descriptor_is_refused(sequence, reason, where, write_dicom):
    with pytest.raises(BadImageError, match=f"the LUT of {where} LUT Sequence {reason}"):
        read_gray(write_dicom(stored_ramp(), BitsStored=12, **{f"{where}LUTSequence": sequence}))


def test_a_table_with_too_few_entries_is_refused(write_dicom):
    sequence = lut(range(0, 65536, 16), 0, 16)
    sequence[0].LUTDescriptor = [4097, 0, 16]
    with pytest.raises(BadImageError, match="must have 4097 entries as its LUT Descriptor says, found 4096"):
        read_gray(write_dicom(stored_ramp(), BitsStored=12, VOILUTSequence=sequence))


def test_entries_of_8_bits_may_lie_two_in_a_word(write_dicom):
    entries = np.arange(4096) // 16 ^ 0xFF
    for packed in (False, True):
        path = write_dicom(stored_ramp(), BitsStored=12, VOILUTSequence=lut(entries, 0, 8, packed=packed))
        assert np.array_equal(read_gray(path), 255 - (stored_ramp() >> 4))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_the_first_value_of_a_table_is_signed_where_the_values_are(syntax, write_dicom):
    """PS3.3 C.11.2.1.1: by the range after the modality LUT, not by Pixel Representation."""
    sequence = lut(np.arange(0, 65536, 16), -1024, 16, first_vr="SS")
    path = write_dicom(stored_ramp(), syntax=syntax, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=sequence)
    assert np.array_equal(read_gray(path), stored_ramp() >> 4)


@pytest.mark.parametrize(
    ("attributes", "rule"),
    [
        ({"VOILUTFunction": "LINEAR"}, lambda x: (x - 1999.5) / 999 + 0.5),
        ({"VOILUTFunction": "LINEAR_EXACT"}, lambda x: (x - 2000) / 1000 + 0.5),
        ({"VOILUTFunction": "SIGMOID"}, lambda x: 1 / (1 + np.exp(-4 * (x - 2000) / 1000))),
        ({"VOILUTFunction": ""}, lambda x: (x - 1999.5) / 999 + 0.5),
        ({"RescaleSlope": "", "RescaleIntercept": ""}, lambda x: (x - 1999.5) / 999 + 0.5),
        ({"VOILUTSequence": pydicom.Sequence([])}, lambda x: (x - 1999.5) / 999 + 0.5),
        ({"ModalityLUTSequence": pydicom.Sequence([pydicom.Dataset()])}, lambda x: (x - 1999.5) / 999 + 0.5),
        ({"PresentationLUTShape": "", "PixelPaddingValue": None, "NumberOfFrames": None}, lambda x: (x - 1999.5) / 999 + 0.5),
    ],
)
def test_windows_follow_their_function_and_what_is_empty_is_absent(attributes, rule, write_dicom):
    """PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2."""
    path = write_dicom(stored_ramp(), BitsStored=12, WindowCenter=2000, WindowWidth=1000, **attributes)
    assert np.array_equal(read_gray(path), np.clip(rule(stored_ramp().astype(float)), 0, 1) * 65535 // 256)


@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth"])
def test_an_empty_window_is_none(keyword, write_dicom, picture):
    path = write_dicom(picture(0), **{"WindowCenter": 10, "WindowWidth": 20, keyword: None})
    assert np.array_equal(read_gray(path), picture(0))


# Headers


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"SamplesPerPixel": 3}, "photometric interpretation MONOCHROME2, but Samples per Pixel is 3"),
        ({"PhotometricInterpretation": "RGB"}, "photometric interpretation RGB, but Samples per Pixel is 1"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, "photometric interpretation YBR_PARTIAL_422 is not supported"),
        ({"PhotometricInterpretation": None}, "photometric interpretation missing is not supported"),
        ({"PresentationLUTShape": "INVERSE"}, "Presentation LUT Shape INVERSE with MONOCHROME2 is not supported"),
        ({"PresentationLUTShape": "LIN OD"}, "Presentation LUT Shape LIN OD with MONOCHROME2 is not supported"),
        (
            {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
            "Presentation LUT Shape IDENTITY with MONOCHROME1 is not supported",
        ),
        ({"BitsStored": 12}, "Bits Allocated 8, Bits Stored 12 and High Bit 11 do not fit together"),
        ({"BitsStored": 8, "HighBit": 3}, "Bits Allocated 8, Bits Stored 8 and High Bit 3 do not fit together"),
        ({"BitsAllocated": None}, "its header lacks Bits Allocated"),
        ({"Rows": None}, "its header lacks Rows"),
        ({"Rows": 0}, "no pixels: the header says 48 x 0"),
        ({"Rows": 20}, "1920 bytes of pixels, where one frame takes 960: its header does not fit them"),
        ({"RescaleSlope": 0}, "Rescale Slope is 0"),
        ({"VOILUTFunction": "CUBIC", "WindowCenter": 9, "WindowWidth": 9}, "VOI LUT Function CUBIC is not supported"),
        ({"SharedFunctionalGroupsSequence": pydicom.Sequence([pydicom.Dataset()])}, r"an enhanced image \(functional groups\)"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused_by_name(attributes, reason, write_dicom, picture):
    with pytest.raises(BadImageError, match=reason):
        read_gray(write_dicom(picture(0), **attributes))


def test_floating_point_pixels_are_refused(write_dicom, picture, tmp_path):
    made = pydicom.dcmread(write_dicom(picture(0)))
    del made.PixelData
    made.FloatPixelData = picture(0).astype(np.float32).tobytes()
    with pytest.raises(BadImageError, match="floating point pixels have no fixed range"):
        read_gray(write(made, tmp_path / "b.dcm"))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("keep", ["file meta", "nothing"])
@pytest.mark.parametrize("name", ["b.dcm", "1.2.840.113.7"])
def test_a_file_without_preamble_is_read(syntax, keep, name, write_dicom, picture, tmp_path):
    """PS3.10 7.1 wants the preamble, but older writers left it out, and the file meta too."""
    path = write_dicom(picture(0), syntax=syntax)
    content = path.read_bytes()[132:]
    if keep == "nothing":
        content = content[12 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength :]
    (tmp_path / name).write_bytes(content)
    assert is_dicom(tmp_path / name) and is_image_file(tmp_path / name)
    assert np.array_equal(read_gray(tmp_path / name), picture(0))
    assert np.array_equal(read_gray_bytes(content), picture(0))


def test_the_deflated_syntax_is_told_by_the_file_meta(write_dicom, picture):
    path = write_dicom(picture(0), ImageComments="not 1.2.840.10008.1.2.1.99")
    assert np.array_equal(read_gray(path), picture(0))


# Compressed pixels


def jpeg_stream(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_stream(made, stream: bytes, syntax=pydicom.uid.JPEGBaseline8Bit):
    """Put a compressed stream in the place of a data set's pixels."""
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = pydicom.encaps.encapsulate([stream])
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    return made


@pytest.mark.parametrize("allocated", [8, 16])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_gray_jpeg_is_read_as_the_file_of_it(allocated, quality, picture, tmp_path):
    stream = jpeg_stream(picture(0), quality=quality)
    (tmp_path / "a.jpg").write_bytes(stream)
    made = with_stream(dataset(picture(0), BitsAllocated=allocated, BitsStored=8), stream)
    assert np.array_equal(read_gray(write(made, tmp_path / "a.dcm")), read_gray(tmp_path / "a.jpg"))


def colours(picture):
    return np.dstack([picture(1), picture(2), picture(3)])


@pytest.mark.parametrize(("photometric", "options"), [("YBR_FULL_422", {}), ("YBR_FULL", {"subsampling": 0}), ("RGB", {"keep_rgb": True})])
def test_a_colour_jpeg_is_read_as_the_file_of_it(photometric, options, picture, tmp_path):
    stream = jpeg_stream(colours(picture), **options)
    (tmp_path / "a.jpg").write_bytes(stream)
    made = with_stream(dataset(colours(picture), PhotometricInterpretation=photometric), stream)
    assert np.array_equal(read_gray(write(made, tmp_path / "a.dcm")), read_gray(tmp_path / "a.jpg"))


def test_a_jpeg_that_says_nothing_of_its_colours_follows_the_header(picture, tmp_path):
    """The same bytes as RGB and as YBR: DICOM alone tells, and libjpeg alone would guess YBR."""
    stream = bytearray(jpeg_stream(colours(picture), keep_rgb=True, quality=95))
    del stream[2 : 4 + int.from_bytes(stream[4:6])]  # Adobe's marker
    frame, scan = stream.index(b"\xff\xc0") + 10, stream.index(b"\xff\xda") + 5
    for number in range(3):  # the components are named 1, 2, 3
        stream[frame + 3 * number] = stream[scan + 2 * number] = number + 1
    found = {}
    for photometric in ("RGB", "YBR_FULL"):
        made = with_stream(dataset(colours(picture), PhotometricInterpretation=photometric), bytes(stream))
        found[photometric] = read_gray(write(made, tmp_path / "a.dcm"))
    expected = (colours(picture).astype(int) @ [19595, 38470, 7471] + 32768) >> 16
    assert np.abs(found["RGB"] - expected).max() <= 6
    assert np.abs(found["YBR_FULL"] - expected).max() > 50


@pytest.mark.parametrize(("photometric", "options"), [("RGB", {}), ("YBR_FULL_422", {"keep_rgb": True})])
def test_a_jpeg_whose_marker_contradicts_the_header_is_refused(photometric, options, picture, tmp_path):
    made = with_stream(dataset(colours(picture), PhotometricInterpretation=photometric), jpeg_stream(colours(picture), **options))
    with pytest.raises(BadImageError, match=f"photometric interpretation {photometric}, but its JPEG stream is marked as"):
        read_gray(write(made, tmp_path / "a.dcm"))


def test_another_transfer_syntax_is_refused_by_name(picture, tmp_path):
    made = with_stream(dataset(picture(0)), jpeg_stream(picture(0)), pydicom.uid.MPEG2MPML)
    with pytest.raises(BadImageError, match=r"transfer syntax 1\.2\.840\.10008\.1\.2\.4\.100 is not supported; save it uncompressed"):
        read_gray(write(made, tmp_path / "a.dcm"))


def test_a_stream_that_does_not_fit_the_header_is_refused(picture, tmp_path):
    made = with_stream(dataset(picture(0)), jpeg_stream(colours(picture)))
    with pytest.raises(BadImageError, match=r"its compressed pixels have the shape \(40, 48, 3\), but its header says \(40, 48\)"):
        read_gray(write(made, tmp_path / "a.dcm"))


def test_another_decoder_changes_nothing(write_dicom, picture, monkeypatch, tmp_path):
    """Where pydicom may choose, it takes the first that is installed; here it may not."""
    from pydicom.pixels.decoders.base import get_decoder

    made = pydicom.dcmread(write_dicom(picture(0)))
    made.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom")
    path = write(made, tmp_path / "b.dcm")
    decoder = get_decoder(pydicom.uid.RLELossless)
    monkeypatch.setattr(decoder, "_available", {"other": lambda source, runner: bytearray(40 * 48), **decoder._available})
    assert not made.pixel_array.any()
    assert np.array_equal(read_gray(path), picture(0))


@pytest.mark.parametrize("uid", ["JPEGBaseline8Bit", "JPEG2000Lossless", "RLELossless"])
def test_pixels_that_are_cut_off_are_truncated(uid, write_dicom, picture, tmp_path):
    path = write_dicom(picture(0))
    made = pydicom.dcmread(path)
    if uid == "JPEGBaseline8Bit":
        with_stream(made, jpeg_stream(picture(0)))
    else:
        made.compress(getattr(pydicom.uid, uid))
    content = write(made, path).read_bytes()
    path.write_bytes(content[:-100])  # a download that was broken off
    with pytest.raises(BadImageError, match=r"^truncated: its pixels are cut off$"):
        read_gray(path)
    if uid != "RLELossless":
        stream = pydicom.encaps.get_frame(made.PixelData, 0, number_of_frames=1)
        with pytest.raises(BadImageError, match=r"^truncated: its compressed pixels end before their end mark$"):
            read_gray(write(with_stream(made, stream[: len(stream) // 2], getattr(pydicom.uid, uid)), path))


def test_no_reason_is_a_library_s(write_dicom, picture, tmp_path):
    """Cut anywhere, or with any byte changed: the reason is one of ours, or the file is still read."""
    made = pydicom.dcmread(write_dicom(picture(0).astype(np.uint16) << 4, BitsStored=12, WindowCenter=2048, WindowWidth=4096))
    made.compress(pydicom.uid.JPEG2000Lossless, encoding_plugin="pylibjpeg")
    for reason in reasons_of_damage(write(made, tmp_path / "b.dcm").read_bytes(), 132, 150):
        assert "Error" not in reason and "exception" not in reason.lower()


def test_for_processing_is_told(write_dicom, picture):
    for intent, expected in (("FOR PROCESSING", True), ("FOR PRESENTATION", False), ("", False)):
        assert is_for_processing(write_dicom(picture(0), PresentationIntentType=intent)) is expected
    assert not is_for_processing(write_dicom(picture(0)))
