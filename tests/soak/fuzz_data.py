"""Targets of the fuzz: pictures, DICOM, indexes, prepared images, records of runs, states of trainings."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from ppdl.config import read_built_for
from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.image_io import read_gray
from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.datasets.preparing.prepare import read_raw_index
from ppdl.datasets.sources.folder import Folder
from ppdl.errors import ConfigError, DataError, PpdlError, TrackingError
from ppdl.tracking.runs.record import DatasetRecord, EpochRecord, RunRecord, read_record
from ppdl.training.fitting.state import State, read_state, write_state
from tests.soak.mutate import damaged_bytes, damaged_tree
from tests.soak.target import Target, contents_of, one_of_files, restore

SAVED = [  # suffix, mode, what Pillow is told
    (".png", "L", {}),
    (".png", "RGB", {}),
    (".png", "P", {}),
    (".png", "I;16", {}),
    (".png", "LA", {"pnginfo": None}),
    (".jpg", "L", {}),
    (".jpg", "RGB", {"progressive": True}),
    (".jpg", "CMYK", {}),
    (".bmp", "L", {}),
    (".bmp", "RGB", {}),
    (".tif", "L", {}),
    (".tif", "I;16", {}),
    (".tif", "RGB", {"compression": "tiff_lzw"}),
    (".tif", "1", {"compression": "group4"}),
    (".webp", "RGB", {"lossless": True}),
]


def _pixels(size: int = 24) -> np.ndarray:
    ramp = np.add.outer(np.arange(size) * 5, np.arange(size) * 4)
    return ramp.astype(np.uint8)


def _picture(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(_pixels().astype(np.uint16) * 257)
    return Image.fromarray(_pixels()).convert("RGB").convert(mode)


def picture_contents() -> dict[str, bytes]:
    """Return a good file of each format and mode, by name."""
    contents = {}
    for suffix, mode, options in SAVED:
        buffer = io.BytesIO()
        _picture(mode).save(buffer, Image.registered_extensions()[suffix], **options)
        contents[f"{mode.replace(';', '-')}-{len(contents)}{suffix}"] = buffer.getvalue()
    return contents


def pictures(folder: Path) -> Target:
    """Pictures of every format and mode that is read."""
    contents = picture_contents()
    garbage = st.tuples(st.sampled_from(sorted(contents)), st.binary(max_size=200))
    return Target("pictures", st.one_of(one_of_files(contents), garbage), lambda case: _read_picture(folder, case), BadImageError, 22)


def dicom(folder: Path) -> Target:
    """DICOM files: plain, and JPEG 2000 in fragments; bytes, and lengths of elements, damaged."""
    contents = {
        "plain.dcm": _dicom({}),
        "window.dcm": _dicom({"WindowCenter": 100, "WindowWidth": 50, "RescaleSlope": 2, "RescaleIntercept": -7}),
    }
    contents["jpeg.dcm"] = _dicom_jpeg()
    return Target("DICOM", one_of_files(contents), lambda case: _read_picture(folder, case), BadImageError, 8)


def _read_picture(folder: Path, case: tuple[str, bytes]) -> None:
    path = folder / case[0]
    path.write_bytes(case[1])
    gray = read_gray(path)
    if gray.dtype != np.uint8 or gray.ndim != 2 or gray.min() == gray.max():
        raise AssertionError(f"read_gray gave {gray.dtype} {gray.shape}")


def _dataset(pixels: np.ndarray, attributes: dict):
    import pydicom

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    return dataset


def _dicom(attributes: dict) -> bytes:
    buffer = io.BytesIO()
    _dataset(_pixels().astype(np.uint16) * 257, attributes).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _dicom_jpeg() -> bytes:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    picture, buffer, dataset = io.BytesIO(), io.BytesIO(), _dataset(_pixels(), {})
    Image.fromarray(_pixels()).save(picture, "JPEG")
    dataset.PixelData = encapsulate([picture.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def indexes(folder: Path) -> Target:
    """The raw index, and the table of patients."""
    (folder / "index.csv").write_text("path,class_name,patient\nCOVID/images/a.png,COVID,7\nNormal/images/ß.png,Normal,\n")
    (folder / "patients.csv").write_text("path,patient\nCOVID/a.png,7\nNormal/b.png,8\n")
    root, table = folder / "tree", folder / "patients.csv"
    for name in ("COVID", "Normal"):
        (root / name).mkdir(parents=True)
        for i in range(3):
            (root / name / f"{i}.png").write_bytes(b"x")
    table.write_text("path,patient\n" + "".join(f"{n}/{i}.png,p{i}\n" for n in ("COVID", "Normal") for i in range(3)))
    dataset = Folder(classes=None, on_bad_image="raise", root=str(root), patient_pattern=None, patients=str(table))
    readers = {"index.csv": lambda: read_raw_index(folder), "patients.csv": lambda: dataset.write_raw(folder / "raw")}
    good = {name: (folder / name).read_bytes() for name in readers}

    def read(case: tuple[str, bytes]) -> None:
        (folder / case[0]).write_bytes(case[1])
        readers[case[0]]()

    return Target("indexes", one_of_files(good), read, DataError, 8)


def prepared(folder: Path) -> Target:
    """The folder of prepared images: fields of meta.json, and the bytes of all three files."""
    path = folder / "prepared"
    path.mkdir()
    np.save(path / "images.npy", np.zeros((3, 4, 4), np.uint8))
    rows = [
        f"{name}/{i}.png,{name},{label},{i},-1,{split}"
        for i, (name, label, split) in enumerate([("a", 0, "train"), ("b", 1, "test"), ("a", 0, "validation")])
    ]
    (path / "index.csv").write_text("\n".join(["path,class_name,label,group,fold,split", *rows]) + "\n")
    meta = {"class_names": ["a", "b"], "images_sha256": "0" * 64, "num_images": 3, "prepared_px": 4, "params": {"dataset": {}}}
    (path / "meta.json").write_text(json.dumps(meta))
    good = contents_of(path)

    def read(case: tuple[str, bytes]) -> None:
        try:
            (path / case[0]).write_bytes(case[1])
            load_prepared(path).rows("train")
        finally:
            restore(path, good)

    trees = damaged_tree(meta).map(lambda tree: ("meta.json", json.dumps(tree).encode()))
    return Target("prepared images", st.one_of(trees, one_of_files(good)), read, DataError, 8)


def records(folder: Path) -> Target:
    """run.json, and the record of what a folder was built for."""
    data = DatasetRecord("phantom", "cd" * 32, "data/prepared", {"train": 7})
    record = RunRecord(
        "ab" * 16, "ppdl", "plain", 1, 2, {"seed": 1}, {"a": "b"}, data, None, (EpochRecord(0, 1, {"val/loss": 0.5}),), {"fit/seconds": 1.0}
    )
    record.write(folder / "run.json")
    tree = json.loads((folder / "run.json").read_text())
    text = st.one_of(damaged_tree(tree).map(lambda t: json.dumps(t).encode()), damaged_bytes((folder / "run.json").read_bytes()))

    def read(data: bytes) -> None:
        (folder / "run.json").write_bytes(data)
        (folder / "built_for.json").write_bytes(data)
        with contextlib.suppress(ConfigError):
            read_built_for(folder)
        read_record(folder / "run.json")

    return Target("records of runs", text, read, TrackingError, 6)


def states(folder: Path) -> Target:
    """The state that a killed training resumes from; what cannot be read is passed over, and never an error."""
    weights = [np.arange(6, dtype=np.float32).reshape(2, 3)]
    write_state(folder / "state", "digest", State([{"epoch": 0, "val_loss": 1.0}], 0, weights, weights, weights, 1.0))
    path = folder / "state/state.npz"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_state(folder / "state", "digest")

    return Target("states of trainings", damaged_bytes(path.read_bytes()), read, PpdlError, 6)


TARGETS = [pictures, dicom, indexes, prepared, records, states]
