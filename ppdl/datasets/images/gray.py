"""What all readers of images share: the reason of a refusal, the limit of size, and how values become 8-bit gray."""

import numpy as np
from PIL import Image

from ppdl.errors import DataError

MAX_PIXELS = 1 << 26  # 8192 x 8192; a larger picture is taken for a decompression bomb before it is decoded
MIN_DEEP_LEVELS = 16  # a picture of more than 8 bits must keep this many gray levels in 8


class BadImageError(DataError):
    """One image file cannot be used. The text is the reason alone; who lists several files adds their names."""


def check_size(width: int, height: int, frames: int) -> None:
    """Refuse what must not or cannot be decoded to one picture, from the header alone.

    Raises:
        BadImageError: The picture has no or more than `MAX_PIXELS` pixels, or the file holds several frames.
    """
    if width < 1 or height < 1:
        raise BadImageError(f"no pixels: the header says {width} x {height}")
    if width * height > MAX_PIXELS:
        raise BadImageError(f"too large: {width} x {height} pixels, more than {MAX_PIXELS} may be a decompression bomb")
    if frames > 1:
        raise BadImageError(f"holds {frames} frames; give each picture its own file")


def to_8_bit(values: np.ndarray, bits: int) -> np.ndarray:
    """Keep the top 8 of `bits` bits.

    Args:
        values: (height, width) non-negative integers below 2^bits.
    """
    return (values >> (bits - 8) if bits >= 8 else values << (8 - bits)).astype(np.uint8)


def check_depth(gray: np.ndarray, *, dark: bool, found: str, way_out: str) -> None:
    """Refuse a picture of more than 8 bits that leaves most of its range unused, since a stretch would depend on the picture.

    Args:
        gray: What 8 bits keep of it.
        dark: Its values need fewer bits than they are said to have.
        found: The values and their range, for the message.
        way_out: What to do, for the message.

    Raises:
        BadImageError: It is dark, or fewer than `MIN_DEEP_LEVELS` gray levels are left of it.
    """
    levels = int(gray.max()) - int(gray.min()) + 1
    if levels > 1 and (dark or levels < MIN_DEEP_LEVELS):  # one level is constant, which is refused under that name
        raise BadImageError(f"too {'dark' if dark else 'flat'} to keep: {found}, which is {levels} gray levels in 8 bits; {way_out}")


def luma(image: Image.Image) -> np.ndarray:
    """Return the BT.601 luma of an image of 8-bit channels, what is transparent on black: (height, width) uint8."""
    if image.mode == "La":  # gray that was multiplied by its alpha: as it lies on black
        return np.asarray(image.getchannel(0))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")  # Pillow has no direct way to gray from every mode
    return np.asarray(image.convert("L"))
