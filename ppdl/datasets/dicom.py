"""Read a DICOM file as 8-bit gray: modality LUT, then VOI LUT or window, then the photometric interpretation.

Source: DICOM PS3.3 C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2 (photometric interpretation).
"""

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ppdl.datasets.image_io import BadImageError, check_size, luma, to_8_bit
from ppdl.errors import DataError

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_WINDOW_BITS = 16  # a window's output range; its top 8 bits stay


def import_pydicom() -> Any:
    """Return the pydicom module.

    Raises:
        DataError: It is not installed.
    """
    try:
        import pydicom
        import pydicom.pixels  # the transforms used below; absent before version 3
    except ImportError as error:
        raise DataError(f"DICOM images need an extra: run `pip install ppdl[dicom]` ({error})") from error
    return pydicom


def read_dicom(path: Path | BinaryIO) -> np.ndarray:
    """Read a DICOM file by the rule of `image_io`.

    The first window or VOI LUT of the file is applied where it has one, else the whole range of the stored bits is kept.

    Returns:
        (height, width) uint8.

    Raises:
        BadImageError: The file is damaged, deflated, has no pixels or several frames, is too large, or has palette colours.
        DataError: pydicom is missing.
    """
    pydicom = import_pydicom()
    try:
        content = path.read_bytes() if isinstance(path, Path) else path.read()
        if _DEFLATED in content:  # pydicom inflates the whole data set before anybody sees its size
            raise BadImageError("deflated DICOM (transfer syntax 1.2.840.10008.1.2.1.99) is not read; save it uncompressed")
        dataset = pydicom.dcmread(io.BytesIO(content))  # in memory, where a length beyond the end asks for no more than there is
        if "PixelData" not in dataset:
            raise BadImageError("a DICOM file without pixels")
        check_size(int(dataset.Columns), int(dataset.Rows), int(dataset.get("NumberOfFrames") or 1))
        return _to_gray(dataset)
    except (BadImageError, MemoryError):
        raise
    except Exception as error:  # as for pictures: any error of a decoder is this file's, and is reported under its name
        raise BadImageError(f"unreadable DICOM: {type(error).__name__}: {error}") from error


def _to_gray(dataset: Any) -> np.ndarray:
    """Decode a DICOM data set: (height, width) uint8."""
    photometric = dataset.PhotometricInterpretation
    if photometric in ("MONOCHROME1", "MONOCHROME2"):
        gray = _displayed(dataset)
        return 255 - gray if photometric == "MONOCHROME1" else gray
    if photometric == "RGB" or photometric.startswith("YBR"):
        pixels = dataset.pixel_array  # (height, width, 3); pydicom turns YBR into RGB
        if pixels.dtype != np.uint8:
            raise BadImageError(f"{photometric} pixels of {dataset.BitsAllocated} bits are not supported, only 8")
        return luma(Image.fromarray(pixels))
    raise BadImageError(f"photometric interpretation {photometric} is not supported; save it as MONOCHROME2 or RGB")


def _displayed(dataset: Any) -> np.ndarray:
    """Apply modality LUT and VOI LUT or window: (height, width) uint8."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    values = apply_modality_lut(dataset.pixel_array, dataset)  # (height, width)
    luts = dataset.get("VOILUTSequence")
    if luts and luts[0].get("LUTData") is not None:
        entries, first, bits = luts[0].LUTDescriptor
        luts[0].LUTDescriptor = [entries, first, 16]  # pydicom indexes in the entries' own width: 4096 entries of 8 bits would wrap
        return to_8_bit(apply_voi_lut(np.rint(values).astype(np.int64), dataset), int(bits))
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        _forget_modality(dataset)  # pydicom's window writes over the range that these name; the values have been through them
        return to_8_bit(np.floor(apply_voi_lut(values, dataset)).astype(np.int64), _WINDOW_BITS)
    low, high, bits = _range(dataset)
    levels = np.rint((values - low) / (high - low) * (2**bits - 1))  # the stored values, turned over where the slope is negative
    return to_8_bit(levels.astype(np.int64), bits)


def _range(dataset: Any) -> tuple[float, float, int]:
    """Return the least and the greatest value that the modality LUT can give, and the bits that tell them apart."""
    from pydicom.pixels.processing import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        bits = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
        return 0.0, 2.0**bits - 1, bits
    bits = int(dataset.BitsStored)
    stored = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if dataset.PixelRepresentation else [0, 2**bits - 1])
    ends = apply_modality_lut(stored, dataset)
    return float(ends.min()), float(ends.max()), bits


def _forget_modality(dataset: Any) -> None:
    """Make a window's output range 0 to 2^16 - 1."""
    for keyword in ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.PixelRepresentation = 0
    dataset.BitsStored = _WINDOW_BITS
