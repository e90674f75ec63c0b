"""Decode the one frame of a DICOM file, by a decoder that is named here for each transfer syntax.

Which other decoders are installed does not matter: pydicom alone takes the first that it finds, and lossy JPEG differs by some gray
levels between them. JPEG of 8 bits is decoded as a JPEG file is, so both give the same pixels.

Source: DICOM PS3.5 8.1.1 (pixel cells), 8.2 and A.4 (compressed pixels).
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppdl.datasets.images.gray import BadImageError, check_size
from ppdl.datasets.images.picture import jpeg_bits, opened_picture
from ppdl.errors import DataError, install_extra

_RLE = "1.2.840.10008.1.2.5"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")  # implicit, explicit, explicit big endian
_JPEG = tuple(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51))
_LOSSLESS_OR_LS = tuple(f"1.2.840.10008.1.2.4.{end}" for end in (57, 70, 80, 81))  # lossless JPEG, JPEG-LS
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{end}" for end in (90, 91, 201, 202, 203))  # and its high-throughput form
_LOSSY = tuple(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 81, 91, 203))
_END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000


@dataclass(frozen=True)
class Frame:
    """What a decoder makes of one frame.

    Attributes:
        samples: (height, width) or (height, width, 3) integers.
        bits: Bits that a sample may take.
        in_cells: A sample is a pixel cell, in which the value ends at High Bit. A compressed stream holds the value itself.
        is_lossy: The values are near those that were stored.
        is_rgb: YBR has become RGB.
    """

    samples: np.ndarray
    bits: int
    in_cells: bool = False
    is_lossy: bool = False
    is_rgb: bool = False


def decode(dataset: Any, syntax: str) -> Frame:
    """Decode the frame of a data set whose size was checked.

    Args:
        syntax: Transfer Syntax UID.

    Raises:
        BadImageError: The transfer syntax is not supported, or the pixels are truncated or contradict the header.
        DataError: A decoder is missing.
    """
    if syntax in (*_NATIVE, _RLE):
        frame = _decode_cells(dataset, syntax)
    elif syntax in _JPEG + _LOSSLESS_OR_LS + _JPEG_2000:
        frame = _decode_stream(_stream(dataset), syntax, dataset)
    else:
        raise BadImageError(f"transfer syntax {syntax} is not supported; save it uncompressed (Explicit VR Little Endian)")
    expected = (dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)[: 2 if dataset.SamplesPerPixel == 1 else 3]
    if frame.samples.shape != expected:
        raise BadImageError(f"its compressed pixels have the shape {frame.samples.shape}, but its header says {expected}")
    if dataset.PhotometricInterpretation in ("YBR_RCT", "YBR_ICT") and not frame.is_rgb:
        raise BadImageError(f"photometric interpretation {dataset.PhotometricInterpretation} outside of JPEG 2000 is not supported")
    return frame


def _decode_cells(dataset: Any, syntax: str) -> Frame:
    """Decode uncompressed or run-length encoded pixels to whole cells."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import get_expected_length

    if syntax in _NATIVE:
        needed, found = get_expected_length(dataset), len(dataset.PixelData)
        if found < needed:
            raise BadImageError(f"truncated: {found} bytes of pixels, where {needed} are needed")
        if found >= 1.5 * needed and found > needed + 1:
            raise BadImageError(f"{found} bytes of pixels, where one frame takes {needed}: its header does not fit them")
    bits = dataset.BitsAllocated
    whole = {"pixel_representation": 0, "bits_stored": bits}  # or pydicom cuts the cells at Bits Stored, wherever High Bit is
    samples, _ = get_decoder(syntax).as_array(dataset, index=0, raw=True, decoding_plugin="pydicom" if syntax == _RLE else "", **whole)
    return Frame(samples, bits, in_cells=True)


def _stream(dataset: Any) -> bytes:
    """Return the compressed stream of the frame."""
    from pydicom.encaps import get_frame, parse_basic_offsets

    check_size(dataset.Columns, dataset.Rows, len(parse_basic_offsets(io.BytesIO(dataset.PixelData))))
    stream = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if _END_OF_IMAGE not in stream[-16:]:  # decoders fill up what is missing without a word; a stream is padded to an even length
        raise BadImageError("truncated: its compressed pixels end before their end mark")
    return stream


def _decode_stream(stream: bytes, syntax: str, dataset: Any) -> Frame:
    """Decode JPEG, JPEG-LS or JPEG 2000."""
    if syntax in _JPEG and jpeg_bits(stream) == 8:
        return Frame(_decode_jpeg(stream, dataset.PhotometricInterpretation), 8, is_lossy=True, is_rgb=True)
    try:
        import libjpeg
        import openjpeg
    except ImportError as error:
        raise DataError(f"compressed DICOM images need an extra: {install_extra('dicom')} ({error})") from error
    codec = openjpeg if syntax in _JPEG_2000 else libjpeg
    header = codec.get_parameters(stream)
    check_size(header["columns"], header["rows"], 1)
    samples, is_lossy = codec.decode(stream), syntax in _LOSSY
    # Reversible and irreversible colour transforms are part of JPEG 2000, and openjpeg undoes them.
    is_rgb = syntax in _JPEG_2000 and dataset.PhotometricInterpretation in ("YBR_RCT", "YBR_ICT")
    return Frame(samples, header["precision"], is_lossy=is_lossy, is_rgb=is_rgb)


def _decode_jpeg(stream: bytes, photometric: str) -> np.ndarray:
    """Decode JPEG of 8 bits as a file of it is, but for its colours, which Photometric Interpretation tells: gray or RGB."""
    with opened_picture(stream) as image:
        if image.mode != "RGB":
            return np.asarray(image)
        marked = "jfif" in image.info or "adobe_transform" in image.info
        names = bytes(component[0] for component in image.layer)  # type: ignore[attr-defined]  # a JPEG has components
        is_rgb = "jfif" not in image.info and image.info.get("adobe_transform", int(names != b"RGB")) == 0  # as libjpeg decides
        if is_rgb == (photometric == "RGB"):
            return np.asarray(image)
        if marked or is_rgb:
            found = "RGB" if is_rgb else "YCbCr"
            raise BadImageError(f"photometric interpretation {photometric}, but its JPEG stream is marked as {found}")
        image.draft("YCbCr", image.size)  # as stored: RGB, which nothing in the stream says
        return np.asarray(image)
