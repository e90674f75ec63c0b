"""The COVID-19 Radiography Database, on a miniature of its layout and with a stand-in for kagglehub."""

import csv
import inspect
import sys
import types

import pytest
from PIL import Image

from ppdl.datasets.preparing.prepare import Split, load_prepared, prepare
from ppdl.datasets.sources.radiography import Radiography
from ppdl.errors import ConfigError, DataError

HANDLE = "tawsifurrahman/covid19-radiography-database"
COUNTS = {"COVID": 5, "Lung_Opacity": 6, "Normal": 7, "Viral Pneumonia": 4}


@pytest.fixture
def miniature(tmp_path, picture):
    """Write the layout of the real database: images, masks of the same names, tables and a read-me beside them."""
    root = tmp_path / "versions/5/COVID-19_Radiography_Dataset"
    for label, (name, count) in enumerate(COUNTS.items()):
        for folder in ("images", "masks"):
            (root / name / folder).mkdir(parents=True)
        for number in range(1, count + 1):
            image = Image.fromarray(picture(100 * label + number))
            mode = "RGB" if name == "Viral Pneumonia" and number % 2 else "L"  # as some of the real ones
            image.convert(mode).save(root / name / "images" / f"{name}-{number}.png")
            image.resize((20, 20)).save(root / name / "masks" / f"{name}-{number}.png")
        (root / f"{name}.metadata.xlsx").write_bytes(b"PK")
    (root / "README.md.txt").write_text("read me")
    return root


@pytest.fixture
def kaggle(monkeypatch):
    """Put a stand-in for kagglehub in place; give a function that says what its download does."""

    def behave(download):
        module = types.ModuleType("kagglehub")
        module.dataset_download = download
        monkeypatch.setitem(sys.modules, "kagglehub", module)

    return behave


def dataset_of(root, classes=None, num_images=COUNTS):
    return Radiography(
        root=None if root is None else str(root), handle=HANDLE, num_images=num_images, classes=classes, on_bad_image="raise"
    )


def rows_of(folder):
    with (folder / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("up", [False, True])
def test_a_local_copy_is_read_with_its_masks(up, miniature, tmp_path):
    dataset_of(miniature.parent if up else miniature).write_raw(tmp_path / "raw")
    rows = rows_of(tmp_path / "raw")
    assert [row["path"] for row in rows] == [f"{name}/images/{name}-{i}.png" for name, count in COUNTS.items() for i in range(1, count + 1)]
    assert {row["patient"] for row in rows} == {""}
    for row in rows:
        copy = row["path"].replace("/images/", "/masks/")
        assert (tmp_path / "raw" / copy).read_bytes() == (miniature / copy).read_bytes()
    assert (tmp_path / "raw/COVID/images/COVID-2.png").read_bytes() == (miniature / "COVID/images/COVID-2.png").read_bytes()


def test_it_is_fetched_by_its_handle(miniature, kaggle, tmp_path):
    asked = []
    kaggle(lambda handle: asked.append(handle) or str(miniature.parent))
    dataset_of(None).write_raw(tmp_path / "raw")
    assert asked == [HANDLE] and len(rows_of(tmp_path / "raw")) == sum(COUNTS.values())


def test_a_local_copy_fetches_nothing(miniature, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    dataset_of(miniature).write_raw(tmp_path / "raw")
    assert len(rows_of(tmp_path / "raw")) == sum(COUNTS.values())


def test_it_can_be_prepared(miniature, tmp_path):
    dataset_of(miniature).write_raw(tmp_path / "raw")
    split = Split(test_fraction=0.25, validation_fraction=0.25, num_folds=None, fold=None, near_duplicate_bits=26, seed=0)
    prepare(tmp_path / "raw", tmp_path / "prepared", tmp_path / "reports", split=split, prepared_px=16, on_bad_image="raise", params={})
    prepared = load_prepared(tmp_path / "prepared")
    assert prepared.class_names == tuple(COUNTS) and len(prepared.images) == sum(COUNTS.values())


def test_classes_choose_a_subset(miniature, tmp_path):
    (miniature / "Normal/images/Normal-1.png").unlink()  # not asked for, not counted
    dataset_of(miniature, classes=["Viral Pneumonia", "COVID"]).write_raw(tmp_path / "raw")
    assert [row["class_name"] for row in rows_of(tmp_path / "raw")] == ["Viral Pneumonia"] * 4 + ["COVID"] * 5


def test_an_unknown_class_is_named():
    with pytest.raises(
        ConfigError, match=r"dataset\.classes names Pneumonia, but the database has COVID, Lung_Opacity, Normal, Viral Pneumonia"
    ):
        dataset_of(None, classes=["COVID", "Pneumonia"])


def test_other_counts_are_refused(miniature, tmp_path):
    (miniature / "COVID/images/COVID-1.png").unlink()
    (miniature / "Normal/images/extra.png").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"expected number of images: COVID: 4 instead of 5; Normal: 8 instead of 7\. Fetch it again .*dataset\.num_images"
    ):
        dataset_of(miniature).write_raw(tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_another_layout_is_refused(miniature, tmp_path):
    (miniature / "COVID").rename(miniature / "COVID-19")
    (miniature / "Normal/images").rename(miniature / "Normal/pictures")
    with pytest.raises(DataError, match=r"missing COVID, Normal, found COVID-19, Lung_Opacity, Normal, Viral Pneumonia"):
        dataset_of(miniature).write_raw(tmp_path / "raw")


def test_a_missing_local_copy_is_named(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.root .*nothing does not exist"):
        dataset_of(tmp_path / "nothing").write_raw(tmp_path / "raw")


def test_without_kagglehub_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(
        DataError,
        match=r"needs an extra: run `pip install 'ppdl-paillier\[kaggle\]'`\. Or fetch it by other means and set dataset\.root=",
    ):
        dataset_of(None).write_raw(tmp_path / "raw")


def test_without_a_network_the_way_out_is_named(kaggle, tmp_path):
    def fail(handle):
        raise ConnectionError("Max retries exceeded: www.kaggle.com")

    kaggle(fail)
    message = rf"{HANDLE} could not be fetched from Kaggle: ConnectionError: Max retries .*\. Try again\. Or .* set dataset\.root=PATH"
    with pytest.raises(DataError, match=message):
        dataset_of(None).write_raw(tmp_path / "raw")


def test_the_real_kagglehub_takes_the_call():
    """The stand-in has the signature of the real function."""
    kagglehub = pytest.importorskip("kagglehub")
    inspect.signature(kagglehub.dataset_download).bind(HANDLE)
