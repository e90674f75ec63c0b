"""Read a picture file (PNG, JPEG, BMP, TIFF, WebP) through Pillow, by the rule of `image_io`."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from ppdl.datasets.images.gray import MAX_PIXELS, BadImageError, check_depth, check_size, luma, to_8_bit

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_SUBFILE_TYPE, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 254, 258, 259, 262, 284, 339  # tags of TIFF 6.0
_COLOURED = 32  # of 255, between a pixel's largest and least channel: JPEG's rounding and a scanner's tint stay below it
_MUCH = 0.1  # of the pixels: a coloured mark on a film stays below it; a third of a photograph's are gray enough to be one's
_NO_PICTURE = 1 | 4  # SubfileType: a reduced copy of another page, a transparency mask
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers SOF0 to SOF15 of ITU-T T.81


@contextmanager
def opened_picture(content: bytes) -> Iterator[Image.Image]:
    """Open the content of a picture file through Pillow, its size checked; whatever fails while it is open is the file's fault.

    Never by path: from memory, a chunk longer than the file asks for no more than there is, and Pillow 11.3 to 13.0 scramble an
    uncompressed TIFF that is rotated where they map the file.

    Raises:
        BadImageError: The file is no picture of `FORMATS`, damaged, or too large.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check_size(image.width, image.height, _seek_picture(image))
            yield image
    except (BadImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImageError(_why_unknown(content)) from error
    except Image.DecompressionBombError as error:
        raise BadImageError(f"too large: more than {MAX_PIXELS} pixels may be a decompression bomb") from error
    except Exception as error:  # decoders meet hostile bytes: Pillow also lets SyntaxError, struct.error, EOFError and more through
        if "Decompressed data too large" in str(error):
            raise BadImageError("too large: its text may be a decompression bomb") from error
        raise BadImageError("unreadable: truncated or damaged") from error


def read_picture(content: bytes) -> np.ndarray:
    """Read the content of a picture file as gray: (height, width) uint8.

    Raises:
        BadImageError: As `opened_picture`, or the rule of `image_io` does not say what its pixels mean.
    """
    with opened_picture(content) as image:
        tags: Any = getattr(image, "tag_v2", {})
        if image.mode == "L" and max(tags.get(_SAMPLE_FORMAT, (1,))) == 2:  # which Pillow takes for unsigned
            raise BadImageError("signed pixels have no fixed range; save it with 8 or 16 unsigned bits")
        bits = tags.get(_BITS_PER_SAMPLE, (8,))
        if max(bits) > 8 and len(bits) > 1 and tags.get(_PLANAR) == 2 and tags.get(_COMPRESSION, 1) == 1:
            # Pillow takes the bytes of a channel for its pixels.
            raise BadImageError("a TIFF of more than 8 bits in separate planes, uncompressed, is not supported; save it interleaved")
        rawmode, white_is_zero = _rawmode(image), tags.get(_PHOTOMETRIC) == 0
        is_deep = max(bits) > 8 or ";16" in rawmode
        return _to_gray(ImageOps.exif_transpose(image), rawmode, white_is_zero, is_deep)  # of the file, only mode and info outlive the turn


def is_coloured(content: bytes) -> bool:
    """Tell whether more than a tenth of a picture shows colour, which no X-ray does; one stored in colour whose pixels are gray does not.

    Raises:
        BadImageError: As `opened_picture`.
    """
    with opened_picture(content) as image:
        if image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I"):
            return False
        channels = np.asarray(image.convert("RGB").reduce(max(1, min(image.size) // 64)))
    return bool((np.ptp(channels, axis=-1) > _COLOURED).mean() > _MUCH)


def jpeg_bits(content: bytes) -> int:
    """Return the bits a sample of a JPEG or JPEG-LS stream, from its frame header; 0 where there is none."""
    at = 2
    while at + 5 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if marker in _JPEG_FRAMES or marker == 0xF7:  # SOF55 of JPEG-LS
            return content[at + 4]
        at += 2 + length if marker != 0xFF else 1  # 0xFF may be repeated before a marker
    return 0


def _seek_picture(image: Image.Image) -> int:
    """Go to the first page that is a picture of its own, and return how many there are."""
    frames = getattr(image, "n_frames", 1)
    if image.format == "MPO":  # a camera's JPEG, followed by previews and gain maps of the same picture
        return 1
    if image.format != "TIFF" or frames == 1:
        return int(frames)
    pages = []
    for page in range(frames):
        image.seek(page)
        if not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & _NO_PICTURE:  # type: ignore[attr-defined]  # a TIFF has tags
            pages.append(page)
    image.seek(pages[0] if pages else 0)
    return len(pages) or int(frames)


def _rawmode(image: Image.Image) -> str:
    """Return how the file stores its pixels, such as `I;16B`: after loading, only the mode is known."""
    tiles = getattr(image, "tile", ())
    arguments = tiles[0].args if tiles else ()
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def _to_gray(image: Image.Image, rawmode: str, white_is_zero: bool, is_deep: bool) -> np.ndarray:
    """Turn an upright picture into gray: (height, width) uint8."""
    if image.mode.startswith("I;16"):
        bits = 12 if rawmode == "I;12" else 16  # a 12-bit TIFF says so, and Pillow does not scale it up
        values = np.asarray(image).astype(np.uint16)
        if image.info.get("transparency") is not None:
            values = np.where(values == image.info["transparency"], 0, values)
        if white_is_zero:  # Pillow inverts 8 bits itself, but not 16
            values = 2**bits - 1 - values
        gray, found = to_8_bit(values, bits), f"{bits}-bit pixels that use only {values.min()} to {values.max()}"
        check_depth(gray, dark=int(values.max()) < 2 ** (bits - 1), found=found, way_out=_WAY_OUT.format(bits))
        return gray
    if image.mode in ("I", "F"):
        raise BadImageError(f"mode {image.mode} (signed, 32-bit or float pixels) has no fixed range; save it with 8 or 16 unsigned bits")
    if is_deep:  # Pillow keeps the top 8 bits of each channel
        return _deep_colour(image)
    if rawmode in ("L;2", "L;4") and isinstance(image.info.get("transparency"), int):  # Pillow scales the pixels up, but not this value
        image.info["transparency"] *= {"L;2": 85, "L;4": 17}[rawmode]
    return luma(image)


_WAY_OUT = "save it with values over the whole range of {} bits"


def _deep_colour(image: Image.Image) -> np.ndarray:
    """Turn what Pillow keeps of 16-bit colour into gray: (height, width) uint8."""
    if image.mode == "CMYK" or "transparency" in image.info:
        what = "CMYK" if image.mode == "CMYK" else "colour with a transparent colour"
        raise BadImageError(f"16-bit {what} is not supported; save it as 16-bit gray, or with 8 bits a channel")
    gray = luma(image)
    brightest = max(int(np.asarray(image.getchannel(name)).max()) for name in image.getbands() if name not in "Aa")
    found = f"16-bit colour that uses only the top bytes {gray.min()} to {brightest}"
    check_depth(gray, dark=brightest < 128, found=found, way_out=_WAY_OUT.format(16))
    return gray


def _why_unknown(content: bytes) -> str:
    """Say why Pillow knows no way to read a file."""
    if content[:2] == b"\xff\xd8" and jpeg_bits(content) not in (0, 8):
        return f"a JPEG of {jpeg_bits(content)} bits a sample is not supported; save it as a 16-bit PNG, or with 8 bits"
    if content[:4] in (b"II*\0", b"MM\0*"):
        try:
            tags: Any = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
            file = io.BytesIO(content)
            file.seek(tags.next)
            tags.load(file)
            bits, photometric = tags.get(_BITS_PER_SAMPLE, (1,)), tags.get(_PHOTOMETRIC)
        except Exception:  # the header is what is damaged
            return "unreadable: a TIFF whose header is truncated or damaged"
        kind = {1: "unsigned", 2: "signed", 3: "float"}.get(max(tags.get(_SAMPLE_FORMAT, (1,))), "complex or untyped")
        what = f"a TIFF of {max(bits)} bits a sample ({kind}, {len(bits)} a pixel, photometric interpretation {photometric})"
        return f"{what} is not supported; save it as a PNG of 8 or 16 bits"
    return f"unreadable: not one of {', '.join(FORMATS)}, DICOM, or its header is damaged"
