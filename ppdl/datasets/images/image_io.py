"""Read an image file of any common kind as 8-bit gray, by one rule.

The rule. How a file stores a picture must not show in its pixels, or the network learns the storage instead of the disease:

1. The picture is turned as its EXIF orientation says. Colour profiles and gamma tags are ignored.
2. A palette is looked up and CMYK or Lab become RGB. What is transparent lies on black.
3. Colour becomes ITU-R BT.601 luma, (19595 R + 38470 G + 7471 B + 32768) >> 16, which leaves a gray colour v at exactly v.
4. More than 8 bits: the top 8 bits of the format's range stay, whatever values the picture uses. A picture that leaves the top bit
   unused (12-bit values in a 16-bit file), or keeps fewer than 16 gray levels, is refused, not stretched: a stretch would depend on
   the picture.
5. A minimum-is-white picture is inverted (see `dicom.py` for DICOM's windows).

So gray, RGB, RGBA, palette and 16-bit copies of a picture give the same bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import joblib
import numpy as np

from ppdl.datasets.images.dicom import HEAD_BYTES, begins_as_dicom, read_dicom
from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.picture import is_coloured, read_picture

MAX_FILE_BYTES = 1 << 29  # gray.MAX_PIXELS in colour of 16 bits, uncompressed, with room to spare
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
_CHUNK = 64  # files decoded before any is used: bounds the memory
T = TypeVar("T")
_EMPTY = "the file is empty (0 bytes)"


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM: by its suffix, or by its first bytes, since many are named by a bare UID."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return False
    try:
        with path.open("rb") as file:
            return begins_as_dicom(file.read(HEAD_BYTES))
    except OSError:
        return False


def is_image_file(path: Path) -> bool:
    """Tell whether a file counts as an image: by its suffix, or as DICOM (`is_dicom`)."""
    return path.suffix.lower() in PICTURE_SUFFIXES or is_dicom(path)


def read_gray(path: Path) -> np.ndarray:
    """Read an image file as 8-bit gray by the rule of this module.

    Returns:
        (height, width) uint8, not constant.

    Raises:
        BadImageError: The file is empty, unreadable, truncated, too large, ambiguous (several frames, no fixed range), too dark or flat
            for its bits, or constant.
        DataError: The file is DICOM and pydicom is missing.
    """
    return _read(file_bytes(path), dicom=is_dicom(path))


def read_gray_bytes(content: bytes) -> np.ndarray:
    """Read the content of an image file as `read_gray` reads the file; DICOM is known by its first bytes.

    Raises:
        BadImageError: As `read_gray`.
        DataError: It is DICOM and pydicom is missing.
    """
    if not content:
        raise BadImageError(_EMPTY)
    return _read(content, dicom=begins_as_dicom(content[:HEAD_BYTES]))


def shows_colour(path: Path) -> bool:
    """Tell whether a file that `read_gray` reads is coloured, see `is_coloured`; of DICOM, whose header says what it is, never.

    Raises:
        BadImageError: As `read_gray`.
    """
    return not is_dicom(path) and is_coloured(file_bytes(path))


def file_bytes(path: Path) -> bytes:
    """Return the content of an image file.

    Raises:
        BadImageError: The file is empty, unreadable or too large.
    """
    try:
        if path.is_dir():
            raise BadImageError("a folder: name the files in it")
        size = path.stat().st_size
        if size == 0:
            raise BadImageError(_EMPTY)
        if size > MAX_FILE_BYTES:
            raise BadImageError(f"too large: {size} bytes, more than {MAX_FILE_BYTES} are not read")
        return path.read_bytes()
    except OSError as error:
        raise BadImageError(f"unreadable: {error.strerror}") from error


def side_by_side(function: Callable[[str], T], paths: Sequence[str], num_workers: int) -> Iterator[T]:
    """Yield function(path) of each path in order, some at a time in threads: decoding releases the interpreter's lock most of the time.

    Args:
        num_workers: threads; -1 takes one a core.
    """
    with joblib.Parallel(num_workers, prefer="threads") as parallel:
        for start in range(0, len(paths), _CHUNK):
            yield from parallel(joblib.delayed(function)(path) for path in paths[start : start + _CHUNK])


def _read(content: bytes, *, dicom: bool) -> np.ndarray:
    gray = read_dicom(content) if dicom else read_picture(content)
    low, high = int(gray.min()), int(gray.max())
    if low == high:
        raise BadImageError(f"constant: every pixel is {low}")
    return gray
