"""Read a DICOM file as 8-bit gray: stored values, modality LUT, VOI LUT or window, photometric interpretation.

Source: DICOM PS3.3 C.7.6.3 (image pixels), C.11.6 (presentation LUT shape), PS3.5 8.1.1 (bits), PS3.10 7 (file).
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ppdl.datasets.images.dicom_display import Stored, displayed
from ppdl.datasets.images.dicom_frames import Frame, decode
from ppdl.datasets.images.gray import BadImageError, check_size, luma
from ppdl.errors import DataError, install_extra

HEAD_BYTES = 132  # the preamble and its mark
_DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT, _EXPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_GRAY = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}  # and the Presentation LUT Shape that says the same
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_INTEGERS = ("Rows", "Columns", "Samples per Pixel", "Bits Allocated", "Bits Stored")


def begins_as_dicom(head: bytes) -> bool:
    """Tell whether a file begins as DICOM: with a preamble and its mark, or at once with the first elements of group 2 or 8 (PS3.5 7.1)."""
    if head[128:132] == b"DICM":
        return True
    group, element = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    explicit, implicit = head[4:6].isalpha() and head[4:6].isupper(), head[6:8] == b"\0\0"  # a VR, or the upper half of a small length
    return group in (2, 8) and element <= 0x20 and (explicit or implicit)


def import_pydicom() -> Any:
    """Return the pydicom module.

    Raises:
        DataError: It is not installed.
    """
    try:
        import pydicom
        import pydicom.pixels  # the decoders used; absent before version 3
    except ImportError as error:
        raise DataError(f"DICOM images need an extra: {install_extra('dicom')} ({error})") from error
    return pydicom


def read_dicom(content: bytes) -> np.ndarray:
    """Read the content of a DICOM file by the rule of `image_io`.

    The first window or VOI LUT of the file is applied where it has one, else the whole range of the stored bits is kept.

    Returns:
        (height, width) uint8.

    Raises:
        BadImageError: The file is damaged, has no pixels or several frames, is too large, or its header contradicts itself or its
            pixels, or asks for what is not supported.
        DataError: pydicom or a decoder is missing.
    """
    pydicom = import_pydicom()
    try:
        dataset = _parse(pydicom, content)
        _check(dataset)
        return _to_gray(dataset, decode(dataset, _syntax(dataset)))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # as for pictures: any error of a parser or decoder is this file's, and is reported under its name
        raise BadImageError("unreadable DICOM: truncated or damaged") from error


def is_for_processing(path: Path) -> bool:
    """Tell whether a file that `read_dicom` has read says that its pixels are not meant for display (Presentation Intent Type)."""
    dataset = import_pydicom().dcmread(path, stop_before_pixels=True, force=True, specific_tags=["PresentationIntentType"])
    return bool(dataset.get("PresentationIntentType") == "FOR PROCESSING")


def _parse(pydicom: Any, content: bytes) -> Any:
    """Return the data set of a file, its pixels there."""
    if not begins_as_dicom(content[:HEAD_BYTES]):
        raise BadImageError("unreadable: no DICOM file, or its header is damaged")
    if _DEFLATED.encode() in content and _meta(pydicom, content) in (None, _DEFLATED):  # pydicom inflates it before its size is known
        raise BadImageError(f"deflated DICOM (transfer syntax {_DEFLATED}) is not read; save it uncompressed")
    file = io.BytesIO(content)  # in memory, where a length beyond the end asks for no more than there is
    pydicom.dcmread(file, stop_before_pixels=True, force=True)  # `force`: without preamble or file meta too
    begins = file.read(4) != b""
    dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise BadImageError("floating point pixels have no fixed range; save it with 8 to 16 unsigned bits")
    if "PixelData" not in dataset or not dataset.PixelData:
        raise BadImageError("truncated: its pixels are cut off" if begins else "a DICOM file without pixels, or truncated before them")
    return dataset


def _meta(pydicom: Any, content: bytes) -> str | None:
    """Return the transfer syntax that the file meta names, if it does."""
    file = io.BytesIO(content)
    file.seek(132 if content[128:132] == b"DICM" else 0)
    meta = pydicom.filereader.read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    return meta.get("TransferSyntaxUID")


def _syntax(dataset: Any) -> str:
    """Return the transfer syntax, or what pydicom found where the file does not name it."""
    meta = getattr(dataset, "file_meta", None)
    implicit, little = dataset.original_encoding
    return str((meta and meta.get("TransferSyntaxUID")) or (_IMPLICIT if implicit else _EXPLICIT if little else _BIG_ENDIAN))


def _check(dataset: Any) -> None:
    """Refuse a data set that says too little, contradicts itself, or asks for what is not supported."""
    for name in _INTEGERS:
        if not isinstance(dataset.get(name.replace(" ", "").replace("per", "Per")), int):
            raise BadImageError(f"its header lacks {name}")
    check_size(dataset.Columns, dataset.Rows, int(dataset.get("NumberOfFrames") or 1))
    photometric, samples = dataset.get("PhotometricInterpretation"), dataset.SamplesPerPixel
    is_gray, is_colour = photometric in _GRAY, photometric in _COLOUR
    if not is_gray and not is_colour:
        raise BadImageError(f"photometric interpretation {photometric or 'missing'} is not supported; save it as MONOCHROME2 or RGB")
    if samples != (1 if is_gray else 3):
        raise BadImageError(f"photometric interpretation {photometric}, but Samples per Pixel is {samples}")
    allocated, bits, high = dataset.BitsAllocated, dataset.BitsStored, _high_bit(dataset)
    if allocated not in (1, 8, 16, 32) or not 1 <= bits <= high + 1 <= allocated:
        raise BadImageError(f"Bits Allocated {allocated}, Bits Stored {bits} and High Bit {high} do not fit together")
    if is_colour and (bits != 8 or allocated != 8 or dataset.get("PixelRepresentation")):
        raise BadImageError(f"{photometric} pixels of {allocated} bits are not supported, only 8 unsigned")
    shape = dataset.get("PresentationLUTShape")
    if is_gray and ((shape and shape != _GRAY[photometric]) or dataset.get("PresentationLUTSequence")):
        raise BadImageError(f"Presentation LUT {f'Shape {shape}' if shape else 'Sequence'} with {photometric} is not supported")
    if dataset.get("SharedFunctionalGroupsSequence") or dataset.get("PerFrameFunctionalGroupsSequence"):
        raise BadImageError("an enhanced image (functional groups) is not supported; save it as a classic single-frame image")


def _high_bit(dataset: Any) -> int:
    high = dataset.get("HighBit")
    return dataset.BitsStored - 1 if high is None else int(high)


def _to_gray(dataset: Any, frame: Frame) -> np.ndarray:
    """Turn a decoded frame into gray: (height, width) uint8."""
    photometric = dataset.PhotometricInterpretation
    if photometric in _GRAY:
        gray = displayed(dataset, _stored(dataset, frame))
        return 255 - gray if photometric == "MONOCHROME1" else gray
    colours = frame.samples
    if photometric != "RGB" and not frame.is_rgb:
        from pydicom.pixels.processing import convert_color_space

        colours = convert_color_space(colours, photometric, "RGB")
    return luma(Image.fromarray(np.ascontiguousarray(colours)))


def _stored(dataset: Any, frame: Frame) -> Stored:
    """Take the stored values out of the samples: Bits Stored of them, up to High Bit. Other bits are ignored, as they may be overlays."""
    bits, shift = dataset.BitsStored, _high_bit(dataset) + 1 - dataset.BitsStored
    if shift and not frame.in_cells:
        raise BadImageError(f"Bits Stored {bits} and High Bit {bits + shift - 1} in compressed pixels are ambiguous; save it uncompressed")
    is_signed = bool(dataset.get("PixelRepresentation"))
    if frame.bits < bits and is_signed:
        raise BadImageError(f"signed pixels of {bits} bits in a compressed stream of {frame.bits} bits are ambiguous; save it uncompressed")
    samples, bits = frame.samples.astype(np.int32 if frame.bits <= 16 else np.int64), min(bits, frame.bits)
    values = (samples >> shift) & ((1 << bits) - 1)
    if is_signed:
        values = np.where(values >> (bits - 1), values - (1 << bits), values)
    if frame.is_lossy and frame.bits != bits and np.any(values != samples):  # beyond Bits Stored: an overlay, or an error of the coder
        raise BadImageError(f"lossy compressed pixels have {frame.bits} bits, but Bits Stored is {bits}; save it uncompressed")
    return Stored(values, bits, is_signed, _used(dataset, values, is_signed))


def _used(dataset: Any, values: np.ndarray, is_signed: bool) -> np.ndarray:
    """Tell which values are no padding (PS3.3 C.7.5.1.1.2); all of them where all would be."""
    ends = [dataset.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    known = [end - (1 << 16 if is_signed and end >= 1 << 15 else 0) for end in ends if isinstance(end, int)]
    used = (values < min(known)) | (values > max(known)) if known else np.ones(values.shape, bool)
    return used if used.any() else ~used
