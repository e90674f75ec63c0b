"""Paths that lead out of a folder, and files that are small on disk and huge in memory."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.image_io import read_gray
from ppdl.datasets.preparing.prepare import read_raw_index
from ppdl.errors import DataError
from tests.soak.fuzz_data import _dataset, _pixels

PROJECT = Path(__file__).resolve().parents[2]
OUTSIDE = [
    "../../etc/passwd",
    "/etc/passwd",
    "COVID/../../x.png",
    "COVID\\..\\x.png",
    "..",
    "",
    "C:\\x.png",
    "//server/x.png",
    "COVID/images/../../../x.png",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_an_index_that_leads_out_of_its_folder_is_refused(tmp_path, path):
    (tmp_path / "index.csv").write_text(f'path,class_name,patient\n"{path}",COVID,\n')
    with pytest.raises(DataError, match=r"must list paths below|lists no images"):
        read_raw_index(tmp_path)


def test_a_link_that_leads_out_reads_nothing_but_pictures(tmp_path):
    """DVC links files from its cache, so links are followed; what is no picture is refused, and its content is not quoted."""
    private = tmp_path / "private.json"
    private.write_text('{"p": "0123456789"}')
    (tmp_path / "a.png").symlink_to(private)
    with pytest.raises(BadImageError, match="unreadable: not one of PNG") as error:
        read_gray(tmp_path / "a.png")
    assert "0123456789" not in str(error.value)


def test_the_archive_of_a_download_cannot_write_outside_its_folder(tmp_path):
    """kagglehub unpacks with zipfile, which drops what leads out, and with tarfile's filter "data", which refuses it."""
    import inspect
    import tarfile

    http_resolver = pytest.importorskip("kagglehub.http_resolver")
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../outside.txt", "x")
        file.writestr("/absolute.txt", "x")
        file.writestr("inside/a.png", "x")
    out = tmp_path / "a/b"
    extract = next(f for name, f in inspect.getmembers(http_resolver, inspect.isfunction) if "extract" in name.lower())
    extract(str(archive), str(out)) if len(inspect.signature(extract).parameters) == 2 else extract(
        archive_path=str(archive), out_path=str(out)
    )
    assert not [path for path in tmp_path.rglob("*.txt") if out not in path.parents] and (out / "inside/a.png").is_file()
    assert not Path("/absolute.txt").exists()
    tar = tmp_path / "evil.tar"
    with tarfile.open(tar, "w") as file:
        file.addfile(tarfile.TarInfo("../outside.txt"))
    with pytest.raises(tarfile.TarError):
        extract(str(tar), str(tmp_path / "c"))
    assert not (tmp_path / "outside.txt").exists()


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of one colour, 1 bit a pixel, that unpacks to width * height pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, rows = zlib.compressobj(9), bytearray()
    row = bytes(1 + (width + 7) // 8)
    for _ in range(height):
        rows += packer.compress(row)
    rows += packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(rows)) + chunk(b"IEND", b"")


def text_bomb(megabytes: int) -> bytes:
    """A good PNG with a compressed text chunk that unpacks to many megabytes."""
    from PIL.PngImagePlugin import PngInfo

    info, buffer = PngInfo(), io.BytesIO()
    info.add_text("Comment", "x" * (megabytes << 20), zip=True)
    Image.fromarray(_pixels()).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def deflated_dicom(megabytes: int) -> bytes:
    """A DICOM file in the deflated transfer syntax: its whole data set is one zlib stream."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dataset, buffer = _dataset(_pixels(), {}), io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(buffer, enforce_file_format=True)
    deflated = buffer.getvalue()
    begin = next(i for i in range(132, len(deflated)) if _inflates(deflated[i:]))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(zlib.decompress(deflated[begin:], -15))
    for _ in range(megabytes):
        body += packer.compress(bytes(1 << 20))
    return deflated[:begin] + body + packer.flush()


def _inflates(data: bytes) -> bool:
    try:
        return b"MONOCHROME2" in zlib.decompress(data, -15)
    except zlib.error:
        return False


def multi_frame_dicom() -> bytes:
    """A DICOM file whose header claims more pixels than a picture may have."""
    buffer = io.BytesIO()
    dataset = _dataset(_pixels(), {"Rows": 60_000, "Columns": 60_000})
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


BOMBS = {
    "pixels.png": (lambda: png_bomb(40_000, 40_000), "too large: more than 67108864 pixels"),
    "text.png": (lambda: text_bomb(300), "too large: its text may be a decompression bomb"),
    "deflated.dcm": (lambda: deflated_dicom(600), "deflated DICOM"),
    "claims.dcm": (multi_frame_dicom, "too large: 60000 x 60000 pixels"),
}
READ = """
import resource, sys
from pathlib import Path
import numpy, PIL.Image, pydicom, pydicom.pixels
from ppdl.datasets.images.dicom import read_dicom
from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.image_io import read_gray
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_gray(Path(sys.argv[1]))
    text = "read"
except BadImageError as error:
    text = str(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, text)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_refused_in_little_memory(tmp_path, name):
    make, message = BOMBS[name]
    (tmp_path / name).write_bytes(make())
    assert (tmp_path / name).stat().st_size < 2 << 20
    done = subprocess.run(
        [sys.executable, "-c", READ, tmp_path / name], capture_output=True, text=True, check=True, cwd=PROJECT, timeout=60
    )
    used_mib, text = done.stdout.strip().split(" ", 1)
    assert message in text
    assert int(used_mib) < 150


def test_the_largest_picture_that_is_read(tmp_path):
    """8192 x 8192 is the limit."""
    (tmp_path / "large.png").write_bytes(png_bomb(8192, 8192))
    with pytest.raises(BadImageError, match="constant"):
        read_gray(tmp_path / "large.png")
    (tmp_path / "larger.png").write_bytes(png_bomb(8192, 8193))
    with pytest.raises(BadImageError, match="too large: 8192 x 8193 pixels"):
        read_gray(tmp_path / "larger.png")


def test_a_file_beyond_all_pictures_is_not_opened(tmp_path):
    path = tmp_path / "huge.dcm"
    with path.open("wb") as file:
        file.truncate((1 << 29) + 1)  # a hole: takes no room on the disk
    with pytest.raises(BadImageError, match="too large: 536870913 bytes"):
        read_gray(path)
