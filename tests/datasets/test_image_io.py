"""Reading images: however a picture is stored, its pixels are the same; and what cannot be read is refused with the reason."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from ppdl.datasets.image_io import MAX_PIXELS, BadImageError, is_image_file, read_gray, read_gray_bytes


def save_gray(path, pixels):
    Image.fromarray(pixels).save(path)


def save_rgb(path, pixels):
    Image.fromarray(pixels).convert("RGB").save(path)


def save_rgba(path, pixels):
    Image.fromarray(pixels).convert("RGBA").save(path)


def save_gray_alpha(path, pixels):
    Image.fromarray(pixels).convert("LA").save(path)


def save_palette(path, pixels):
    """Store index 255 - v for gray v: whoever forgets the palette sees a negative."""
    image = Image.fromarray(255 - pixels)
    image.putpalette(np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3).tobytes())
    image.save(path)


def save_16_bit(path, pixels):
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape)
    Image.fromarray((pixels.astype(np.uint16) << 8) + noise.astype(np.uint16)).save(path)


def save_16_bit_white_is_zero(path, pixels):
    Image.fromarray(65535 - pixels.astype(np.uint16) * 257).save(path, tiffinfo={TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: 0})


def save_16_bit_rgb(path, pixels):
    """Write the PNG by hand: Pillow cannot."""
    height, width = pixels.shape
    wide = np.repeat(pixels.astype(">u2")[..., None] * 257, 3, axis=2)  # (height, width, 3)
    write_png(path, width, height, 16, 2, b"".join(b"\0" + row.tobytes() for row in wide))


def save_webp(path, pixels):
    Image.fromarray(pixels).convert("RGB").save(path, lossless=True)


def write_png(path: Path, width: int, height: int, bits: int, colour: int, data: bytes) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("save", "suffix"),
    [
        *((save_gray, suffix) for suffix in (".png", ".bmp", ".tif", ".PNG")),
        *((save_rgb, suffix) for suffix in (".png", ".bmp", ".tiff")),
        *((save_rgba, suffix) for suffix in (".png", ".tif")),
        *((save_gray_alpha, suffix) for suffix in (".png", ".tif")),
        *((save_palette, suffix) for suffix in (".png", ".bmp", ".tif")),
        *((save_16_bit, suffix) for suffix in (".png", ".tif")),
        (save_16_bit_white_is_zero, ".tif"),
        (save_16_bit_rgb, ".png"),
        (save_webp, ".webp"),
    ],
)
def test_storage_does_not_show(save, suffix, picture, tmp_path):
    pixels = picture(0)
    path = tmp_path / f"a{suffix}"
    save(path, pixels)
    gray = read_gray(path)
    assert gray.dtype == np.uint8 and np.array_equal(gray, pixels)
    assert is_image_file(path)


def test_the_storages_differ(picture, tmp_path):
    """Guard the test above: the files really are of different modes."""
    modes = {}
    for save in (save_gray, save_rgb, save_rgba, save_gray_alpha, save_palette, save_16_bit):
        save(tmp_path / "a.png", picture(0))
        with Image.open(tmp_path / "a.png") as image:
            modes[save.__name__] = image.mode
    assert list(modes.values()) == ["L", "RGB", "RGBA", "LA", "P", "I;16"]


def test_gray_and_colour_jpeg_agree(picture, tmp_path):
    image = Image.fromarray(picture(0))
    image.save(tmp_path / "gray.jpg", quality=90)
    image.convert("RGB").save(tmp_path / "colour.jpg", quality=90)
    assert np.array_equal(read_gray(tmp_path / "gray.jpg"), read_gray(tmp_path / "colour.jpg"))


def test_colour_becomes_luma(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    expected = (colours.astype(int) @ [19595, 38470, 7471] + 32768) >> 16
    assert np.array_equal(read_gray(tmp_path / "a.png"), expected)


def test_what_is_transparent_lies_on_black(picture, tmp_path):
    pixels = picture(0)
    alpha = np.zeros_like(pixels)
    alpha[:, :20] = 255
    Image.fromarray(np.dstack([pixels, pixels, pixels, alpha])).save(tmp_path / "a.png")
    assert np.array_equal(read_gray(tmp_path / "a.png"), np.where(alpha, pixels, 0))


def test_a_transparent_gray_value_is_black(tmp_path):
    for dtype, shift in ((np.uint8, 0), (np.uint16, 8)):
        pixels = np.array([[10, 20], [30, 40]], dtype) << shift
        Image.fromarray(pixels).save(tmp_path / "a.png", transparency=int(pixels[1, 0]))
        assert read_gray(tmp_path / "a.png").tolist() == [[10, 20], [0, 40]]


def test_one_bit_is_black_and_white(tmp_path):
    Image.fromarray(np.array([[True, False], [False, True]])).save(tmp_path / "a.png")
    assert read_gray(tmp_path / "a.png").tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize(
    ("orientation", "undo"), [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a)), (8, lambda a: np.rot90(a, -1)), (2, np.fliplr)]
)
def test_orientation_is_undone(suffix, orientation, undo, picture, tmp_path):
    pixels = picture(0)
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo(pixels))).convert("RGB")
    stored.save(tmp_path / f"a{suffix}", exif=exif, lossless=True)
    assert np.array_equal(read_gray(tmp_path / f"a{suffix}"), pixels)


def test_a_12_bit_tiff_keeps_its_top_bits(tmp_path):
    values = np.arange(0, 4096, 16).reshape(16, 16)
    pairs = values.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1).astype(np.uint8).tobytes()
    tags = {256: 16, 257: 16, 258: 12, 259: 1, 262: 1, 273: 8 + 2 + 12 * 9 + 4, 277: 1, 278: 16, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + packed)
    assert np.array_equal(read_gray(tmp_path / "a.tif"), values >> 4)


def write_bad(kind: str, path: Path, pixels: np.ndarray) -> None:
    """Write a file that must be refused."""
    image = Image.fromarray(pixels)
    match kind:
        case "empty":
            path.touch()
        case "text":
            path.write_text("no image")
        case "truncated png" | "truncated jpg" | "truncated tif" | "truncated bmp":
            whole = path.with_suffix("." + kind.split()[1])
            image.resize((200, 200)).save(whole)
            path.write_bytes(whole.read_bytes()[:-2000])
        case "header only":
            whole = path.with_suffix(".png")
            image.save(whole)
            path.write_bytes(whole.read_bytes()[:20])
        case "bomb" | "huge bomb":
            side = 8193 if kind == "bomb" else 50000
            write_png(path, side, side, 8, 0, bytes(100))
        case "constant":
            Image.fromarray(np.full((8, 8), 17, np.uint8)).save(path, format="PNG")
        case "constant rgb":
            Image.new("RGB", (8, 8), (17, 17, 17)).save(path, format="PNG")
        case "frames":
            image.save(path, format="TIFF", save_all=True, append_images=[image])
        case "animation":
            image.save(path, format="WEBP", save_all=True, append_images=[Image.fromarray(255 - pixels)])
        case "float":
            Image.fromarray(pixels.astype(np.float32)).save(path, format="TIFF")
        case "32-bit":
            Image.fromarray(pixels.astype(np.int32)).save(path, format="TIFF")
        case "dark":
            Image.fromarray(pixels.astype(np.uint16) * 13).save(path, format="PNG")
        case "gif":
            image.save(path, format="GIF")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", r"the file is empty \(0 bytes\)"),
        ("text", "unreadable: not one of PNG, JPEG, BMP, TIFF, WEBP, or its header is damaged"),
        ("gif", "unreadable: not one of PNG, JPEG, BMP, TIFF, WEBP"),
        ("truncated png", "unreadable: OSError: .*truncated"),
        ("truncated jpg", "unreadable: OSError: .*truncated"),
        ("truncated bmp", "unreadable: OSError: .*truncated"),
        ("truncated tif", "unreadable: "),
        ("header only", "unreadable: "),
        ("bomb", f"too large: 8193 x 8193 pixels, more than {MAX_PIXELS} may be a decompression bomb"),
        ("huge bomb", f"too large: more than {MAX_PIXELS} pixels may be a decompression bomb"),
        ("constant", "constant: every pixel is 17"),
        ("constant rgb", "constant: every pixel is 17"),
        ("frames", "holds 2 frames; give each picture its own file"),
        ("animation", "holds 2 frames; give each picture its own file"),
        ("float", r"mode F \(signed, 32-bit or float pixels\) has no fixed range; save it with 8 or 16 unsigned bits"),
        ("32-bit", r"mode I \(signed"),
        ("dark", r"too dark to keep: 16-bit pixels that use only \d+ to \d+, which is \d+ gray levels in 8 bits"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(kind, reason, picture, tmp_path):
    path = tmp_path / "bad.png"
    write_bad(kind, path, picture(0))
    with pytest.raises(BadImageError, match=reason):
        read_gray(path)


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(BadImageError, match="unreadable: No such file or directory"):
        read_gray(tmp_path / "a.png")


def test_other_files_are_no_images(tmp_path):
    for name in ("notes.txt", "COVID.metadata.xlsx", "noext"):
        (tmp_path / name).write_text("x" * 200)
        assert not is_image_file(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_the_content_of_a_file_is_read_as_the_file(tmp_path, picture, suffix):
    path = tmp_path / f"a.{suffix}"
    save_rgb(path, picture(3))
    np.testing.assert_array_equal(read_gray_bytes(path.read_bytes()), read_gray(path))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"no picture", "unreadable"), (b"\0" * 128 + b"DICM", "DICOM file without pixels")]
)
def test_content_that_is_no_picture_is_refused(content, reason):
    with pytest.raises(BadImageError, match=reason):
        read_gray_bytes(content)
