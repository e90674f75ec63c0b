"""Reading images: however a picture is stored, its pixels are the same; and what cannot be read is refused with the reason."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from ppdl.datasets.images.gray import MAX_PIXELS, BadImageError
from ppdl.datasets.images.image_io import is_image_file, read_gray, read_gray_bytes
from tests.datasets.damage import reasons_of_damage


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
        pixels = np.array([[10, 20], [30, 140]], dtype) << shift
        Image.fromarray(pixels).save(tmp_path / "a.png", transparency=int(pixels[1, 0]))
        assert read_gray(tmp_path / "a.png").tolist() == [[10, 20], [0, 140]]


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
        ("text", "unreadable: not one of PNG, JPEG, BMP, TIFF, WEBP, DICOM, or its header is damaged"),
        ("gif", "unreadable: not one of PNG, JPEG, BMP, TIFF, WEBP, DICOM"),
        ("truncated png", "^unreadable: truncated or damaged$"),
        ("truncated jpg", "^unreadable: truncated or damaged$"),
        ("truncated bmp", "^unreadable: truncated or damaged$"),
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


# Bits


def save_16_bit_png(path, values, colour):
    """Write 16-bit channels by hand, (height, width) values in each; alpha, where there is one, is opaque."""
    height, width = values.shape
    num_colours, has_alpha = {0: (1, False), 2: (3, False), 4: (1, True), 6: (3, True)}[colour]
    channels = [values] * num_colours + [np.full_like(values, 65535)] * has_alpha
    wide = np.dstack(channels).astype(">u2")
    write_png(path, width, height, 16, colour, b"".join(b"\0" + row.tobytes() for row in wide))


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
def test_values_that_need_fewer_than_16_bits_are_refused_in_every_storage(colour, bits, picture, tmp_path):
    """0 to 4095 in 16 bits has 16 levels of 8 bits, so no rule that counts levels alone finds it."""
    save_16_bit_png(tmp_path / "a.png", picture(0).astype(np.uint16) << (bits - 8), colour)
    with pytest.raises(BadImageError, match=r"too dark to keep: 16-bit (pixels|colour) that uses? only .*over the whole range of 16 bits"):
        read_gray(tmp_path / "a.png")


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_all_16_bits_are_kept_in_every_storage(colour, picture, tmp_path):
    save_16_bit_png(tmp_path / "a.png", (picture(0).astype(np.uint16) << 8) + 77, colour)
    assert np.array_equal(read_gray(tmp_path / "a.png"), picture(0))


@pytest.mark.parametrize("options", [{"compression": None}, {"compression": "zlib"}])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colour_tiff(options, order, picture, tmp_path):
    """In separate planes, uncompressed, Pillow takes bytes for pixels: refused."""
    wide = np.repeat(picture(0)[None].astype(np.uint16) * 257, 3, axis=0)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(wide, 0, 2), photometric="rgb", byteorder=order, **options)
    assert np.array_equal(read_gray(tmp_path / "a.tif"), picture(0))
    for planes, expected in ((wide, None), (wide >> 4, "too dark to keep: 16-bit colour")):
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", byteorder=order, **options)
        if options["compression"] is None:
            expected = "a TIFF of more than 8 bits in separate planes, uncompressed, is not supported"
        if expected is None:
            assert np.array_equal(read_gray(tmp_path / "a.tif"), picture(0))
            continue
        with pytest.raises(BadImageError, match=expected):
            read_gray(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [
        ("i1", "signed pixels have no fixed range"),
        ("i2", r"mode I \(signed"),
        ("u4", r"mode I \(signed, 32-bit"),
        ("f2", r"a TIFF of 16 bits a sample \(float, 1 a pixel, photometric interpretation 1\) is not supported; save it as a PNG"),
        ("f4", r"mode F \(signed, 32-bit or float"),
        ("f8", r"a TIFF of 64 bits a sample \(float"),
        ("u8", r"a TIFF of 64 bits a sample \(unsigned"),
    ],
)
def test_a_tiff_without_a_fixed_range_is_refused_by_name(dtype, reason, picture, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(0).astype(dtype), photometric="minisblack")
    with pytest.raises(BadImageError, match=reason):
        read_gray(tmp_path / "a.tif")


@pytest.mark.parametrize(("bits", "white_is_zero"), [(10, 0), (14, 0), (12, 1)])
def test_a_tiff_of_other_bits_is_refused_by_name(bits, white_is_zero, tmp_path):
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: 1 - white_is_zero, 273: 8 + 2 + 12 * 9 + 4, 277: 1, 278: 8, 279: 8 * bits}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + bytes(range(8 * bits)))
    with pytest.raises(
        BadImageError, match=rf"a TIFF of {bits} bits a sample \(unsigned.*interpretation {1 - white_is_zero}\) is not supported"
    ):
        read_gray(tmp_path / "a.tif")


def test_a_jpeg_of_12_bits_is_refused_by_name(picture, tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "a.jpg")
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    at = content.index(b"\xff\xc0")
    content[at + 1], content[at + 4] = 0xC1, 12
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadImageError, match="a JPEG of 12 bits a sample is not supported"):
        read_gray(tmp_path / "a.jpg")


def make_transparent(path: Path, *values: int) -> None:
    """Put a tRNS chunk into a PNG."""
    content, body = path.read_bytes(), b"tRNS" + struct.pack(f">{len(values)}H", *values)
    at = content.index(b"IDAT") - 4
    path.write_bytes(content[:at] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + content[at:])


def test_16_bit_colour_with_a_transparent_colour_is_refused_by_name(picture, tmp_path):
    """Pillow compares 8 bits of it."""
    save_16_bit_png(tmp_path / "a.png", picture(0).astype(np.uint16) * 257, 2)
    make_transparent(tmp_path / "a.png", 5, 5, 5)
    with pytest.raises(BadImageError, match="16-bit colour with a transparent colour is not supported"):
        read_gray(tmp_path / "a.png")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_value_of_few_bits_is_black(bits, tmp_path):
    """tRNS holds a stored value: 1 of 0 to 3 is the gray level 85."""
    values = np.tile(np.arange(8, dtype=np.uint8) % 2**bits, (2, 1))
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(2, -1), axis=1)
    write_png(tmp_path / "a.png", 8, 2, bits, 0, b"".join(b"\0" + row.tobytes() for row in packed))
    whole = values * (255 // (2**bits - 1))
    assert np.array_equal(read_gray(tmp_path / "a.png"), whole)
    make_transparent(tmp_path / "a.png", 2**bits - 1)
    if bits == 1:  # all that is not black is transparent
        with pytest.raises(BadImageError, match="constant: every pixel is 0"):
            read_gray(tmp_path / "a.png")
    else:
        assert np.array_equal(read_gray(tmp_path / "a.png"), np.where(values == 2**bits - 1, 0, whole))


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_of_a_tiff_lies_on_black(kind, channels, picture, tmp_path):
    """TIFF 6.0 18: with associated alpha, the colours were multiplied by it."""
    alpha = np.zeros_like(picture(0))
    alpha[:, :20], alpha[:, 20:30] = 255, 128
    expected = np.rint(picture(0) * (alpha / 255)).astype(np.uint8)
    pixels = np.dstack([expected if kind == "assocalpha" else picture(0)] * channels + [alpha])
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric, planarconfig="contig", extrasamples=[kind])
    assert np.abs(read_gray(tmp_path / "a.tif").astype(int) - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_luma(suffix, picture, tmp_path):
    colours = np.dstack([picture(1), picture(2), picture(3)])
    Image.fromarray(np.dstack([255 - colours, np.zeros_like(picture(0))]), "CMYK").save(tmp_path / f"a{suffix}", quality=100, subsampling=0)
    expected = (colours.astype(int) @ [19595, 38470, 7471] + 32768) >> 16
    assert np.abs(read_gray(tmp_path / f"a{suffix}") - expected).max() <= (2 if suffix == ".jpg" else 0)


def test_16_bit_cmyk_is_refused_by_name(picture, tmp_path):
    wide = np.repeat(picture(0)[..., None].astype(np.uint16) * 257, 4, axis=2)
    tifffile.imwrite(tmp_path / "a.tif", wide, photometric="separated", planarconfig="contig")
    with pytest.raises(BadImageError, match="16-bit CMYK is not supported"):
        read_gray(tmp_path / "a.tif")


# Pages and orientation

UPRIGHT = {  # what undoes each orientation of TIFF and EXIF, as an operation on the upright pixels
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: a[::-1, ::-1],
    4: np.flipud,
    5: lambda a: a.T,
    6: np.rot90,
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_a_rotated_uncompressed_tiff_is_turned(orientation, mode, picture, tmp_path):
    """Pillow 11.3 to 13.0 scramble 5 to 8 of these modes where they open the file by path, which maps it into memory."""
    pixels = picture(0) if mode == "L" else (picture(0).astype(np.uint16) << 8) + 5
    stored = np.ascontiguousarray(UPRIGHT[orientation](pixels))
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", extratags=[(274, 3, 1, orientation, True)])
    with Image.open(tmp_path / "a.tif") as image:
        assert image.mode == mode and image.tile[0].codec_name == "raw"
    assert np.array_equal(read_gray(tmp_path / "a.tif"), picture(0))


@pytest.mark.parametrize("first", [0, 1])
def test_a_page_that_is_a_reduced_copy_is_passed_over(first, picture, tmp_path):
    """TIFF 6.0, NewSubfileType 1."""
    pages = [(picture(0), 0), (picture(1, (10, 12)), 1)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for pixels, subfile_type in pages if first == 0 else pages[::-1]:
            writer.write(pixels, photometric="minisblack", subfiletype=subfile_type, metadata=None)
    assert np.array_equal(read_gray(tmp_path / "a.tif"), picture(0))


def test_two_pages_are_refused(picture, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number in range(3):
            writer.write(picture(number), photometric="minisblack", subfiletype=int(number == 0), metadata=None)
    with pytest.raises(BadImageError, match="holds 2 frames; give each picture its own file"):
        read_gray(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", [1, 6])
def test_of_a_camera_s_mpo_the_first_picture_is_read(orientation, picture, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](picture(0))))
    image.save(tmp_path / "one.jpg", quality=90, exif=exif)
    image.save(tmp_path / "a.jpg", "MPO", quality=90, exif=exif, save_all=True, append_images=[image.resize((8, 8))])
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.format == "MPO" and opened.n_frames == 2
    assert np.array_equal(read_gray(tmp_path / "a.jpg"), read_gray(tmp_path / "one.jpg"))


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "webp"])
def test_no_reason_is_a_library_s(kind, picture, tmp_path):
    """Cut anywhere, or with any byte changed: the reason is one of ours, or the file is still read."""
    Image.fromarray(picture(0)).save(tmp_path / f"a.{kind}")
    for reason in reasons_of_damage((tmp_path / f"a.{kind}").read_bytes(), 1, 60):
        assert "Error" not in reason and "PIL" not in reason
