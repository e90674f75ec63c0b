"""Your own images: what is taken from a folder, what is ignored, and which mistakes are named."""

import csv
import logging
import os
import sys

import numpy as np
import pytest
from PIL import Image

from ppdl.config.components import construct
from ppdl.datasets.images.masks import have_masks
from ppdl.datasets.preparing.prepare import read_raw_index
from ppdl.datasets.preparing.scan import read_pictures, select
from ppdl.datasets.sources.folder import Folder
from ppdl.errors import ConfigError, DataError


@pytest.fixture
def write_raw(tmp_path):
    """Give a function that writes the raw folder of a root and returns the rows of its index."""

    def write(root, classes=None, patient_pattern=None, patients=None, on_bad_image="raise"):
        root = None if root is None else str(root)
        dataset = Folder(root=root, classes=classes, on_bad_image=on_bad_image, patient_pattern=patient_pattern, patients=patients)
        dataset.write_raw(tmp_path / "raw")
        with (tmp_path / "raw/index.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return write


def names(rows):
    return [row["path"] for row in rows]


def test_images_are_copied_by_class_and_name(write_classes, write_raw, tmp_path):
    root = write_classes(Normal=3, COVID=4)
    rows = write_raw(root)
    assert names(rows) == [f"COVID/images/COVID-{i}.png" for i in range(4)] + [f"Normal/images/Normal-{i}.png" for i in range(3)]
    assert all(row["class_name"] == row["path"].split("/")[0] and row["patient"] == "" for row in rows)
    assert all((tmp_path / "raw" / name).read_bytes() == (root / name).read_bytes() for name in names(rows))


def test_both_layouts_may_be_mixed(write_classes, write_raw, picture):
    root = write_classes(COVID=3)
    (root / "Normal").mkdir()
    for number in range(3):
        Image.fromarray(picture(number)).save(root / "Normal" / f"n{number}.jpg")
    assert names(write_raw(root))[3:] == [f"Normal/n{i}.jpg" for i in range(3)]


def test_a_bad_image_is_named_as_it_lies_below_the_root(write_classes, write_raw, picture, tmp_path):
    root = write_classes(COVID=3, masks=3)  # a class may be called so
    for name in ("masks", "COVID"):
        for path in (root / name / "images").iterdir():
            path.rename(root / name / path.name)
        (root / name / "images").rmdir()
    (root / "COVID/masks-0.png").write_bytes(b"no picture")
    index = names(write_raw(root))
    assert not have_masks(tmp_path / "raw", index)
    found = read_pictures(tmp_path / "raw", index, tmp_path / "spool", prepared_px=16, num_workers=1)
    with pytest.raises(DataError, match=r"(?m)^  COVID/masks-0\.png: unreadable"):
        select(read_raw_index(tmp_path / "raw"), found, on_bad_image="raise")


def test_what_a_mac_puts_beside_unpacked_files_is_no_class(write_classes, write_raw, caplog):
    root = write_classes(Normal=3, COVID=3)
    (root / "__MACOSX/COVID").mkdir(parents=True)
    (root / "__MACOSX/COVID/._COVID-0.png").write_bytes(b"\0\5\x16\7")
    assert len(write_raw(root)) == 6
    assert caplog.messages == [f"{root}: ignored __MACOSX"]


def test_what_is_ignored_is_said(write_classes, write_raw, picture, caplog):
    root = write_classes(COVID=3, Normal=3)
    Image.fromarray(picture(9)).save(root / "COVID/loose.png")
    (root / "COVID/images/sub").mkdir()
    (root / "COVID/images/notes.txt").write_text("x")
    (root / "COVID/images/.DS_Store").write_text("x")
    (root / ".git").mkdir()
    (root / "README.md.txt").write_text("x")
    with caplog.at_level(logging.WARNING):
        assert len(write_raw(root)) == 6
    assert caplog.messages == [f"{root / 'COVID'}: ignored loose.png, .DS_Store, notes.txt, sub"]


def test_lung_masks_come_along(write_classes, write_raw, picture, tmp_path, caplog):
    root = write_classes(COVID=3, Normal=3)
    (root / "COVID/masks").mkdir()
    for name in ("COVID-1", "of no image"):
        Image.fromarray(picture(9)).save(root / f"COVID/masks/{name}.png")
    with caplog.at_level(logging.WARNING):
        write_raw(root)
    copied = [path.relative_to(tmp_path / "raw") for path in (tmp_path / "raw").rglob("masks/*")]
    assert [str(path) for path in copied] == ["COVID/masks/COVID-1.png"] and not caplog.messages


def test_classes_choose_a_subset_and_its_order(write_classes, write_raw):
    rows = write_raw(write_classes(A=3, B=3, C=1), classes=["B", "A"])  # C is too small, yet not asked for
    assert [row["class_name"] for row in rows] == ["B"] * 3 + ["A"] * 3


def test_patients_are_found_in_file_names(write_classes, write_raw):
    root = write_classes(A=3, B=3)
    assert {row["patient"] for row in write_raw(root, patient_pattern=r"-(\d+)")} == {"0", "1", "2"}
    rows = write_raw(root, patient_pattern=r"^(\w+)-(\d+)\.png$")
    assert [row["patient"] for row in rows] == ["A-0", "A-1", "A-2", "B-0", "B-1", "B-2"]


def test_patients_are_read_from_a_table(write_classes, write_raw, tmp_path):
    root = write_classes(A=3, B=3)
    table = tmp_path / "patients.csv"
    lines = [f"00{i},{name}/images/{name}-{i}.png,x" for name in "AB" for i in range(3)]
    table.write_text("\ufeffpatient,path,age\n" + "\n".join(lines), encoding="utf-8")
    assert [row["patient"] for row in write_raw(root, patients=str(table))] == ["000", "001", "002"] * 2


def test_another_column_of_the_table_says_something_of_each_film(write_classes, write_raw, tmp_path):
    root, table = write_classes(A=3, B=3), tmp_path / "patients.csv"
    lines = [f"{name}/images/{name}-{i}.png,{i},site {i}" for name in "AB" for i in range(3)]
    table.write_text("path,patient,hospital\n" + "\n".join(lines))
    paths = [row["path"] for row in write_raw(root, patients=str(table))]
    settings = {"root": str(root), "classes": None, "on_bad_image": "raise", "patient_pattern": None}
    dataset = Folder(**settings, patients=str(table))
    assert dataset.column("hospital", paths[::-1]) == [f"site {i}" for i in (2, 1, 0)] * 2
    with pytest.raises(DataError, match="must have the columns path and ward"):
        dataset.column("ward", paths)
    with pytest.raises(DataError, match="1 films are no longer below"):
        dataset.column("hospital", [*paths, "A/images/gone.png"])
    with pytest.raises(ConfigError, match=r"there is no column 'hospital': .* where dataset.patients is set"):
        Folder(**settings, patients=None).column("hospital", paths)


@pytest.mark.parametrize("again", ["A/images/A-0.png", "./A/images/A-0.png", "A//images/A-0.png"])
def test_an_image_of_two_patients_is_refused_by_name(again, write_classes, write_raw, tmp_path):
    """The last row would win: one patient on both sides of the split."""
    root, table = write_classes(A=3, B=3), tmp_path / "patients.csv"
    rows = [f"{name}/images/{name}-{i}.png,P{i}" for name in "AB" for i in range(3)]
    table.write_text("\n".join(["path,patient", *rows, f"{again},P9"]))
    with pytest.raises(DataError, match=r"must name one patient for each image, found A/images/A-0\.png \(for P0 and for P9\)"):
        write_raw(root, patients=str(table))
    table.write_text("\n".join(["path,patient", *rows, f"{again},P0"]))  # twice the same is no contradiction
    assert [row["patient"] for row in write_raw(root, patients=str(table))] == ["P0", "P1", "P2"] * 2


def test_a_crash_leaves_no_index(write_classes, write_raw, tmp_path):
    root = write_classes(A=3, B=3)
    write_raw(root)
    (root / "B/images/B-1.png").unlink()
    (root / "B/images/B-1.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"B-1\.png cannot be copied to .*: No such file or directory"):
        write_raw(root)
    assert not (tmp_path / "raw/index.csv").exists()


def test_dicom_without_pydicom_stops_before_the_copy(write_classes, write_raw, tmp_path, monkeypatch):
    root = write_classes(A=3, B=3)
    (root / "B/images/scan.dcm").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"run `pip install 'ppdl-paillier\[dicom\]'`"):
        write_raw(root)
    assert not (tmp_path / "raw").exists()


def test_no_root_is_named(write_raw):
    with pytest.raises(ConfigError, match=r"dataset\.root must name the folder of the class folders: set dataset\.root=PATH"):
        write_raw(None)


def test_a_missing_root_is_named(write_raw, tmp_path):
    with pytest.raises(DataError, match=r"dataset\.root .*nothing does not exist \(working directory: .*\)"):
        write_raw(tmp_path / "nothing")


def test_a_root_that_is_a_file_is_named(write_raw, tmp_path):
    (tmp_path / "images.zip").touch()
    with pytest.raises(DataError, match=r"dataset\.root .*images\.zip is a file; .*unpack an archive first"):
        write_raw(tmp_path / "images.zip")


def test_a_home_folder_is_expanded(write_classes, write_raw, tmp_path, monkeypatch):
    write_classes(A=3, B=3)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(write_raw("~/root")) == 6


def test_an_unknown_class_is_named_with_the_known_ones(write_classes, write_raw):
    with pytest.raises(ConfigError, match=r"dataset\.classes names Covid, but .*root has COVID, Normal"):
        write_raw(write_classes(COVID=3, Normal=3), classes=["Covid", "Normal"])


def test_images_without_class_folders_are_named(write_raw, tmp_path, picture):
    root = tmp_path / "flat"
    root.mkdir()
    Image.fromarray(picture(0)).save(root / "a.png")
    with pytest.raises(DataError, match="a folder for each of at least 2 classes, found none, and 1 images outside of folders"):
        write_raw(root)


def test_one_class_is_not_enough(write_classes, write_raw):
    with pytest.raises(DataError, match="a folder for each of at least 2 classes, found COVID, and 0 images"):
        write_raw(write_classes(COVID=3))


def test_a_class_without_images_is_named(write_classes, write_raw):
    root = write_classes(COVID=3, Normal=3)
    (root / "docs").mkdir()
    (root / "docs/a.txt").touch()
    with pytest.raises(DataError, match=r"no images in .*docs; add some, or choose other classes with dataset\.classes"):
        write_raw(root)


def test_a_class_with_too_few_images_is_counted(write_classes, write_raw):
    with pytest.raises(DataError, match=r"every class needs at least 3 images .*, found Normal: 2, Rare: 1 below"):
        write_raw(write_classes(COVID=3, Normal=2, Rare=1))


@pytest.mark.parametrize("out", [".", "raw", "COVID/out"])
def test_root_and_output_must_not_lie_in_each_other(out, write_classes):
    root = write_classes(COVID=3, Normal=3)
    dataset = Folder(root=str(root), classes=None, on_bad_image="raise", patient_pattern=None, patients=None)
    with pytest.raises(ConfigError, match="must not lie in each other"):
        dataset.write_raw(root / out)
    with pytest.raises(ConfigError, match="must not lie in each other"):
        dataset.write_raw(root.parent)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(write_classes, write_raw):
    root = write_classes(COVID=3, Normal=3)
    (root / "COVID/images/COVID-1.png").chmod(0)
    with pytest.raises(DataError, match=r"COVID-1\.png cannot be copied to .*: Permission denied"):
        write_raw(root)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patient_pattern": "("}, r"dataset\.patient_pattern must be a regular expression, got '\('"),
        ({"patient_pattern": 3}, r"dataset\.patient_pattern must be a regular expression, got 3"),
        ({"patient_pattern": r"P\d+"}, r"dataset\.patient_pattern must have a group \(\.\.\.\) that matches the patient"),
        ({"patient_pattern": r"(P\d+)", "patients": "a.csv"}, r"set dataset\.patient_pattern or dataset\.patients, not both"),
    ],
)
def test_a_broken_field_is_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        fields = {"root": None, "classes": None, "on_bad_image": "raise", "patient_pattern": None, "patients": None} | fields
        construct(Folder, fields, "dataset")


def test_a_file_that_names_no_patient_is_named(write_classes, write_raw):
    with pytest.raises(DataError, match=r"dataset\.patient_pattern 'A-\(\.\)' finds no patient in B-0\.png, B-1\.png, B-2\.png; widen it"):
        write_raw(write_classes(A=3, B=3), patient_pattern="A-(.)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"dataset\.patients .*patients\.csv cannot be read: .*No such file"),
        ("", "must have the columns path and patient and a row for every image, found no rows"),
        ("file,patient\na,b\n", "must have the columns path and patient .*, found the columns file, patient"),
        (
            "path,patient\nA/images/A-0.png,1\nA/images/A-1.png,\n",
            r"names no patient for A/images/A-1\.png, A/images/A-2\.png, B/images/B-0\.png",
        ),
        (b"path,patient\n\xff\xfe,1\n", r"must be UTF-8 \(in a spreadsheet, save it as CSV UTF-8\)"),
        (b"path,patient\n" + b"a" * 200_000 + b",1\n", r"cannot be read: it is no CSV table, or a field is too long"),
    ],
)
def test_a_wrong_table_of_patients_is_refused(content, message, write_classes, write_raw, tmp_path):
    table = tmp_path / "patients.csv"
    if content is not None:
        table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        write_raw(write_classes(A=3, B=3), patients=str(table))


def test_long_lists_are_cut_short(write_classes, write_raw):
    with pytest.raises(DataError, match=r"A-0\.png, .* and 15 more; widen it"):
        write_raw(write_classes(A=25, B=3), patient_pattern="(B)")


def test_pixels_are_untouched_by_the_copy(write_classes, write_raw, tmp_path, picture):
    write_raw(write_classes(A=3, B=3))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "raw/A/images/A-2.png")), picture(2))
