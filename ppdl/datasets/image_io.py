"""Read an image file of any common kind as 8-bit gray, by one rule.

The rule. How a file stores a picture must not show in its pixels, or the network learns the storage instead of the disease:

1. The picture is turned as its EXIF orientation says. Colour profiles and gamma tags are ignored.
2. A palette is looked up and CMYK or Lab become RGB. What is transparent lies on black.
3. Colour becomes ITU-R BT.601 luma, (19595 R + 38470 G + 7471 B + 32768) >> 16, which leaves a gray colour v at exactly v.
4. More than 8 bits: the top 8 bits of the format's range stay, whatever values the picture uses. A picture that keeps fewer than
   16 gray levels that way (12-bit values in a 16-bit file) is refused, not stretched: a stretch would depend on the picture.
5. A minimum-is-white picture is inverted (see `dicom.py` for DICOM's windows).

So gray, RGB, RGBA, palette and 16-bit copies of a picture give the same bytes.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ppdl.errors import DataError

MAX_PIXELS = 1 << 26  # 8192 x 8192; a larger picture is taken for a decompression bomb before it is decoded
MAX_FILE_BYTES = 1 << 29  # MAX_PIXELS in colour of 16 bits, uncompressed, with room to spare
MIN_DEEP_LEVELS = 16  # a picture of more than 8 bits must keep this many gray levels in 8
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
_TIFF_PHOTOMETRIC = 262
_DICOM_MARK = slice(128, 132)


class BadImageError(DataError):
    """One image file cannot be used. The text is the reason alone; who lists several files adds their names."""


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM: by its suffix, or by the mark after the preamble, since many are named by a bare UID."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[_DICOM_MARK] == b"DICM"
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
        BadImageError: The file is empty, unreadable, truncated, too large, ambiguous (several frames, no fixed range) or constant.
        DataError: The file is DICOM and pydicom is missing.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise BadImageError("the file is empty (0 bytes)")
        if size > MAX_FILE_BYTES:
            raise BadImageError(f"too large: {size} bytes, more than {MAX_FILE_BYTES} are not read")
    except OSError as error:
        raise BadImageError(f"unreadable: {error.strerror}") from error
    return _read(path, dicom=is_dicom(path))


def read_gray_bytes(content: bytes) -> np.ndarray:
    """Read the content of an image file as `read_gray` reads the file; DICOM is known by the mark after its preamble.

    Raises:
        BadImageError: As `read_gray`.
        DataError: It is DICOM and pydicom is missing.
    """
    if not content:
        raise BadImageError("the file is empty (0 bytes)")
    return _read(io.BytesIO(content), dicom=content[_DICOM_MARK] == b"DICM")


def _read(source: Path | BinaryIO, *, dicom: bool) -> np.ndarray:
    if dicom:
        from ppdl.datasets.dicom import read_dicom  # needs an extra, so only DICOM files load it

        gray = read_dicom(source)
    else:
        gray = _read_picture(source)
    low, high = int(gray.min()), int(gray.max())
    if low == high:
        raise BadImageError(f"constant: every pixel is {low}")
    return gray


def check_size(width: int, height: int, frames: int) -> None:
    """Refuse what must not or cannot be decoded to one picture, from the header alone.

    Raises:
        BadImageError: The picture has more than `MAX_PIXELS` pixels, or the file holds several frames.
    """
    if width * height > MAX_PIXELS:
        raise BadImageError(f"too large: {width} x {height} pixels, more than {MAX_PIXELS} may be a decompression bomb")
    if frames > 1:
        raise BadImageError(f"holds {frames} frames; give each picture its own file")


def to_8_bit(values: np.ndarray, bits: int) -> np.ndarray:
    """Keep the top 8 of `bits` bits.

    Args:
        values: (height, width) non-negative integers below 2^bits.

    Raises:
        BadImageError: There are more than 8 bits, and fewer than `MIN_DEEP_LEVELS` gray levels would be left.
    """
    gray = (values >> (bits - 8) if bits >= 8 else values << (8 - bits)).astype(np.uint8)
    levels = int(gray.max()) - int(gray.min()) + 1
    if bits > 8 and values.min() != values.max() and levels < MIN_DEEP_LEVELS:
        raise BadImageError(
            f"too dark to keep: {bits}-bit pixels that use only {values.min()} to {values.max()}, which is {levels} gray levels in 8 bits; "
            f"save it with values over the whole range of {bits} bits"
        )
    return gray


def luma(image: Image.Image) -> np.ndarray:
    """Return the BT.601 luma of an image of 8-bit channels, what is transparent on black: (height, width) uint8."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")  # Pillow has no direct way to gray from every mode
    return np.asarray(image.convert("L"))


@contextmanager
def opened_picture(path: Path | BinaryIO) -> Iterator[Image.Image]:
    """Open a picture through Pillow, its size checked; whatever fails while it is open is the file's fault.

    Raises:
        BadImageError: The file is no picture of `FORMATS`, damaged, or too large.
    """
    try:
        # From memory, where a chunk longer than the file asks for no more than there is.
        with Image.open(io.BytesIO(path.read_bytes()) if isinstance(path, Path) else path, formats=FORMATS) as image:
            check_size(image.width, image.height, getattr(image, "n_frames", 1))
            yield image
    except (BadImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImageError(f"unreadable: not one of {', '.join(FORMATS)}, or its header is damaged") from error
    except Image.DecompressionBombError as error:
        raise BadImageError(f"too large: more than {MAX_PIXELS} pixels may be a decompression bomb") from error
    except Exception as error:  # decoders meet hostile bytes: Pillow also lets SyntaxError, struct.error, EOFError and more through
        raise BadImageError(f"unreadable: {type(error).__name__}: {error}") from error


def _read_picture(path: Path | BinaryIO) -> np.ndarray:
    """Read a picture through Pillow: (height, width) uint8."""
    with opened_picture(path) as image:
        rawmode, white_is_zero = _rawmode(image), getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0
        return _to_gray(ImageOps.exif_transpose(image), rawmode, white_is_zero)  # of the file, only mode and info outlive the turn


def _rawmode(image: Image.Image) -> str:
    """Return how the file stores its pixels, such as `I;16B`: after loading, only the mode is known."""
    tiles = getattr(image, "tile", ())
    arguments = tiles[0].args if tiles else ()
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def _to_gray(image: Image.Image, rawmode: str, white_is_zero: bool) -> np.ndarray:
    """Turn an upright picture into gray: (height, width) uint8."""
    if image.mode.startswith("I;16"):
        bits = 12 if rawmode == "I;12" else 16  # a 12-bit TIFF says so, and Pillow does not scale it up
        values = np.asarray(image).astype(np.uint16)
        if image.info.get("transparency") is not None:
            values = np.where(values == image.info["transparency"], 0, values)
        if white_is_zero:  # Pillow inverts 8 bits itself, but not 16
            values = 2**bits - 1 - values
        return to_8_bit(values, bits)
    if image.mode in ("I", "F"):
        raise BadImageError(f"mode {image.mode} (signed, 32-bit or float pixels) has no fixed range; save it with 8 or 16 unsigned bits")
    return luma(image)
