"""From raw images to prepared ones: what is kept, what is dropped, what stays together, and what a crash leaves."""

import csv
import hashlib
import io
import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ppdl.datasets.prepared.resize import area_resize
from ppdl.datasets.preparing import prepare as module
from ppdl.datasets.preparing.duplicates import near_pairs, perceptual_hash
from ppdl.datasets.preparing.prepare import Split, load_prepared, prepare
from ppdl.datasets.preparing.scan import read_pictures
from ppdl.datasets.sources.base import write_index
from ppdl.errors import DataError
from tests.datasets.dicom_files import dataset, write

SPLIT = {"test_fraction": 0.2, "validation_fraction": 0.2, "num_folds": None, "fold": None, "near_duplicate_bits": 26, "seed": 1}


@pytest.fixture
def raw(tmp_path, picture):
    """Give a raw folder of two classes of ten images, and a function that adds one: pixels, or bytes as they are."""
    folder = tmp_path / "raw"

    class Raw:
        path, rows = folder, []

        @staticmethod
        def add(name, content, class_name="COVID", patient=""):
            (folder / class_name / "images").mkdir(parents=True, exist_ok=True)
            path = f"{class_name}/images/{name}"
            if isinstance(content, bytes):
                (folder / path).write_bytes(content)
            else:
                Image.fromarray(content).save(folder / path)
            Raw.rows.append((path, class_name, patient))
            write_index(folder, Raw.rows)
            return path

    for class_name, first in (("COVID", 0), ("Normal", 100)):
        for number in range(10):
            Raw.add(f"{number}.png", picture(first + number, (128, 128)), class_name)
    return Raw


@pytest.fixture
def run(raw, tmp_path):
    """Give a function that prepares the raw folder and returns the result and `data.json`."""

    def run(*, on_bad_image="raise", prepared_px=32, num_workers=2, **split):
        out, reports = tmp_path / "prepared", tmp_path / "reports"
        params = {"split": SPLIT | split}
        prepare(
            *(raw.path, out, reports),
            split=Split(**SPLIT | split),
            prepared_px=prepared_px,
            on_bad_image=on_bad_image,
            params=params,
            num_workers=num_workers,
        )
        return load_prepared(out), json.loads((reports / "data.json").read_text())

    return run


def row_of(prepared, path):
    return prepared.index.set_index("path").loc[path]


def recompressed(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((70, 70), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=15)
    return buffer.getvalue()


def test_images_labels_and_index_belong_together(run, raw, picture):
    prepared, report = run()
    assert prepared.images.shape == (20, 32, 32) and isinstance(prepared.images, np.memmap)
    assert prepared.class_names == ("COVID", "Normal")
    for row, (path, class_name, label) in enumerate(prepared.index[["path", "class_name", "label"]].itertuples(index=False)):
        number = int(path.split("/")[-1].split(".")[0])
        assert class_name == path.split("/")[0] == prepared.class_names[label]
        assert np.array_equal(prepared.images[row], area_resize(picture(100 * label + number, (128, 128)), 32))
    assert [len(prepared.rows(split)) for split in ("train", "validation", "test")] == [12, 4, 4]
    assert sorted(np.concatenate([prepared.rows(split) for split in ("train", "validation", "test")])) == list(range(20))
    assert report["images"]["test"] == report["images"]["validation"] == {"COVID": 2, "Normal": 2}
    assert prepared.meta["params"] == {"split": SPLIT} and prepared.meta["num_images"] == 20


def test_the_order_of_the_classes_is_that_of_the_raw_index(run, raw):
    write_index(raw.path, sorted(raw.rows, key=lambda row: row[1] != "Normal"))
    assert run()[0].class_names == ("Normal", "COVID")


def test_the_result_does_not_depend_on_the_workers(run, tmp_path):
    files = ("prepared/images.npy", "prepared/index.csv", "prepared/meta.json", "reports/data.json", "reports/data/contact_sheet.png")
    results = []
    for num_workers in (1, 3):
        run(num_workers=num_workers)
        results.append([(tmp_path / name).read_bytes() for name in files])
    assert results[0] == results[1]


def test_the_checksum_is_that_of_the_pixels(run):
    prepared, _ = run()
    assert prepared.meta["images_sha256"] == hashlib.sha256(np.asarray(prepared.images).tobytes()).hexdigest()


def test_exact_duplicates_are_dropped_whatever_their_format(run, raw, picture, tmp_path):
    copy = raw.add("copy.bmp", np.repeat(picture(3, (128, 128))[..., None], 3, axis=2))
    prepared, report = run()
    assert copy not in set(prepared.index["path"]) and len(prepared.images) == 20
    reason = "has the same pixels as COVID/images/3.png"
    assert report["dropped_files"] == [{"path": copy, "kind": "exact_duplicate", "reason": reason}]
    assert report["dropped"] == {"bad_image": 0, "exact_duplicate": 1, "conflicting_class": 0} and report["num_raw"] == 21
    with (tmp_path / "reports/dropped.csv").open() as file:
        assert list(csv.reader(file)) == [["path", "reason"], [copy, reason]]


def test_near_duplicates_share_a_group_across_classes(run, raw, picture):
    copy = raw.add("copy.jpg", recompressed(picture(3, (128, 128))), "Normal")
    prepared, report = run()
    original, near = row_of(prepared, "COVID/images/3.png"), row_of(prepared, copy)
    assert near["group"] == original["group"] and near["split"] == original["split"]
    assert report["num_groups"] == 20 and report["largest_group"] == 2
    assert report["near_duplicates"] == {
        "max_bits": 26,
        "num_clusters": 1,
        "num_images": 2,
        "largest_cluster": 2,
        "num_mixed_class_clusters": 1,
    }
    assert report["near_duplicate_clusters"] == [["COVID/images/3.png", copy]]
    assert run(near_duplicate_bits=0)[1]["num_groups"] == 21


def test_images_without_a_patient_are_counted_and_said(run, raw, picture, caplog):
    raw.add("a.png", picture(50, (128, 128)), patient="P1")
    _, report = run()
    assert report["num_without_patient"] == 20
    assert "20 of 21 images name no patient: one patient's may be in training and in test" in caplog.text


def test_a_patient_shares_a_group_with_the_duplicates_of_the_images(run, raw, picture):
    raw.add("a.png", picture(50, (128, 128)), patient="P1")
    raw.add("b.png", picture(51, (128, 128)), patient="P1")
    raw.add("c.jpg", recompressed(picture(51, (128, 128))), patient="P2")
    raw.add("d.png", picture(52, (128, 128)), patient="P2")
    raw.add("e.png", picture(52, (128, 128)), patient="007")  # dropped, yet it says that P2 and 007 are one
    raw.add("f.png", picture(53, (128, 128)), patient="007")
    raw.add("g.png", picture(54, (128, 128)), patient="7")
    prepared, report = run()
    groups = [row_of(prepared, f"COVID/images/{name}")["group"] for name in ("a.png", "b.png", "c.jpg", "d.png", "f.png")]
    assert len(set(groups)) == 1
    assert row_of(prepared, "COVID/images/g.png")["group"] not in groups  # 7 is not 007
    assert report["largest_group"] == 5


@pytest.mark.parametrize("folds", [{}, {"num_folds": 3, "fold": 0}, {"num_folds": 3, "fold": 1}, {"num_folds": 3, "fold": 2}])
def test_nothing_leaks_from_one_split_to_another(folds, run, raw, picture):
    rng = np.random.default_rng(0)
    for number in range(30):
        kind, source = rng.integers(3), int(rng.integers(10))
        content = [picture(source, (128, 128)), recompressed(picture(source, (128, 128))), picture(1000 + number, (128, 128))][kind]
        raw.add(f"more-{number}.{'jpg' if kind == 1 else 'png'}", content, patient=f"P{rng.integers(12)}" if kind == 2 else "")
    prepared, _ = run(**folds)
    index = prepared.index
    assert (index.groupby("group")["split"].nunique() == 1).all()
    patients = {path: patient for path, _, patient in raw.rows if patient}
    by_patient = index[index["path"].isin(patients)]
    assert by_patient.groupby(by_patient["path"].map(patients))["split"].nunique().eq(1).all()
    full_size = [np.asarray(Image.open(raw.path / path).convert("L")) for path in index["path"]]
    pairs = near_pairs(np.stack([perceptual_hash(pixels) for pixels in full_size]), 26)
    assert len(pairs) > 3
    splits = index["split"].to_numpy()
    assert (splits[pairs[:, 0]] == splits[pairs[:, 1]]).all()
    assert len({pixels.tobytes() for pixels in full_size}) == len(index)


def test_folds_change_only_the_split(run):
    first, second = (run(num_folds=3, fold=fold)[0] for fold in (0, 1))
    assert first.meta["images_sha256"] == second.meta["images_sha256"]
    assert first.index.drop(columns="split").equals(second.index.drop(columns="split"))
    for fold, prepared in enumerate((first, second)):
        assert np.array_equal(prepared.rows("test"), np.flatnonzero(prepared.index["fold"] == fold))


def add_bad(raw):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99), dtype=np.uint8)).save(whole, "PNG")
    return {
        raw.add("empty.png", b""): "the file is empty (0 bytes)",
        raw.add("flat.png", np.full((9, 9), 7, np.uint8)): "constant: every pixel is 7",
        raw.add("cut.png", whole.getvalue()[:-300], "Normal"): "unreadable: truncated or damaged",
        raw.add("text.png", b"no image", "Normal"): "unreadable: not one of PNG, JPEG, BMP, TIFF, WEBP, DICOM, or its header is damaged",
    }


def test_one_error_lists_all_bad_images_with_their_reasons(run, raw, tmp_path):
    reasons = add_bad(raw)
    with pytest.raises(DataError) as raised:
        run()
    message = str(raised.value)
    assert message.startswith("4 of 24 images cannot be used:\n")
    assert all(f"  {path}: {reason}" in message for path, reason in reasons.items())
    assert "set dataset.on_bad_image=drop" in message
    assert not list((tmp_path / "prepared").iterdir())


def test_bad_images_are_dropped_and_reported(run, raw, tmp_path):
    reasons = add_bad(raw)
    prepared, report = run(on_bad_image="drop")
    assert len(prepared.images) == 20 and report["dropped"]["bad_image"] == 4
    listed = pd.read_csv(tmp_path / "reports/dropped.csv").set_index("path")["reason"].to_dict()
    assert set(listed) == set(reasons) == {item["path"] for item in report["dropped_files"]}
    assert all(listed[path].startswith(reason) for path, reason in reasons.items())


def test_images_for_processing_are_used_and_named(run, raw, tmp_path, picture, caplog):
    for seed, name, intent in ((50, "raw.dcm", "FOR PROCESSING"), (51, "shown.dcm", "FOR PRESENTATION")):
        made = dataset(picture(seed, (128, 128)), PresentationIntentType=intent)
        raw.add(name, write(made, tmp_path / name).read_bytes())
    prepared, report = run()
    assert len(prepared.images) == 22
    assert report["num_for_processing"] == 1 and report["for_processing_files"] == ["COVID/images/raw.dcm"]
    assert "1 images are FOR PROCESSING" in caplog.text


def test_the_same_picture_in_two_classes_names_both(run, raw, picture):
    copy = raw.add("copy.png", picture(3, (128, 128)), "Normal")
    with pytest.raises(DataError) as raised:
        run()
    assert f"{copy}: has the same pixels as COVID/images/3.png, so its class is Normal or COVID" in str(raised.value)
    assert f"COVID/images/3.png: has the same pixels as {copy}, so its class is COVID or Normal" in str(raised.value)
    prepared, report = run(on_bad_image="drop")
    assert len(prepared.images) == 19 and report["dropped"]["conflicting_class"] == 2
    assert not {copy, "COVID/images/3.png"} & set(prepared.index["path"])
    assert np.array_equal(prepared.images[3], area_resize(picture(4, (128, 128)), 32))  # the rows after it moved up together


def test_a_class_with_too_few_usable_images_is_named(run, raw, picture):
    raw.add("a.png", picture(200), "Rare")
    raw.add("b.png", picture(200), "Rare")
    raw.add("c.png", picture(201), "Rare")
    with pytest.raises(DataError, match="class Rare has 2 usable images of 3, but at least 3 are needed"):
        run()


def test_too_few_patients_are_counted(run, raw, picture):
    for number in range(6):
        raw.add(f"{number}.png", picture(300 + number), "Rare", patient=f"P{number % 2}")
    with pytest.raises(DataError, match=r"every class needs at least 3 groups .*, got COVID: 10, Normal: 10, Rare: 2;"):
        run()


def test_small_images_are_counted(run, caplog):
    assert run(prepared_px=160)[1]["num_enlarged"] == 20
    assert "20 images are smaller than the prepared size and were enlarged" in caplog.text
    assert run(prepared_px=128)[1]["num_enlarged"] == 0


def test_a_huge_cluster_of_near_duplicates_is_noticed(run, raw, picture, caplog):
    for number in range(11):
        copy = picture(3, (128, 128))
        copy[number, 0] ^= 1
        raw.add(f"copy-{number}.png", copy)
    assert run()[1]["near_duplicates"]["largest_cluster"] == 12
    assert "a cluster of near duplicates holds 12 of 31 images: split.near_duplicate_bits=26 may be too large" in caplog.text


def test_a_crash_leaves_nothing_that_loads(run, tmp_path, monkeypatch):
    run()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(module, "write_report", fail)
    with pytest.raises(OSError, match="disk full"):
        run(seed=2)
    with pytest.raises(DataError, match=r"meta\.json is missing: the images were not prepared to the end; run the split stage again"):
        load_prepared(tmp_path / "prepared")
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == ["images.npy", "index.csv"]


def test_memory_does_not_grow_with_the_images(picture, tmp_path):
    """400 prepared images of 256 px are 26 MB; 64 are read at a time."""
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    peaks = []
    for num_images in (100, 400):
        tracemalloc.start()
        read_pictures(tmp_path, ["a.png"] * num_images, tmp_path / "spool", prepared_px=256, num_workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "spool").stat().st_size == 400 * 256 * 256
    assert peaks[1] - peaks[0] < 1e6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"index\.csv is missing; run the download stage again \(`dvc repro download`\)"),
        ("path,label\na.png,1\n", "must have the columns path, class_name, patient, found path, label;"),
        ("path,class_name,patient\n", "lists no images;"),
        ("", "cannot be read: No columns to parse from file;"),
        ("path,class_name,patient\n../a.png,A,\n", r"must list paths below .*raw with forward slashes, found '\.\./a\.png';"),
        ("path,class_name,patient\n/etc/a.png,A,\n", "must list paths below .* found '/etc/a.png';"),
        ("path,class_name,patient\nA\\a.png,A,\n", "must list paths below .* found"),
        ("path,class_name,patient\na.png,A,\na.png,B,\n", "must list each path once, found 'a.png' twice;"),
        ("path,class_name,patient\na.png,,\n", "must name a class for every image, found none for 'a.png';"),
    ],
)
def test_a_damaged_raw_index_is_refused(content, message, run, raw):
    path = raw.path / "index.csv"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=message):
        run()


def test_a_missing_raw_image_is_named(run, raw):
    (raw.path / "COVID/images/3.png").unlink()
    with pytest.raises(DataError, match=r"COVID/images/3\.png: unreadable: No such file or directory"):
        run()


def test_numbers_stay_text_in_the_raw_index(tmp_path):
    write_index(tmp_path, [("1/images/1.png", "1", "007"), ("1/images/2.png", "1", "7")])
    index = module.read_raw_index(tmp_path)
    assert index["patient"].tolist() == ["007", "7"] and index["class_name"].tolist() == ["1", "1"]
