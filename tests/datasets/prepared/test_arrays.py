"""Loading prepared images: every way in which the three files can be damaged or not fit is refused."""

import json

import numpy as np
import pytest

from ppdl.datasets.prepared.arrays import load_prepared
from ppdl.errors import ConfigError, DataError

INDEX = "path,class_name,label,group,fold,split\na.png,NA,0,0,-1,train\nb.png,null,1,1,-1,validation\nc.png,NA,0,2,-1,test\n"
META = {"class_names": ["NA", "null"], "images_sha256": "", "num_images": 3, "prepared_px": 4, "params": {}}


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "images.npy", np.arange(48, dtype=np.uint8).reshape(3, 4, 4))
    (tmp_path / "index.csv").write_text(INDEX)
    (tmp_path / "meta.json").write_text(json.dumps(META))
    return tmp_path


def test_a_whole_folder_loads(folder):
    prepared = load_prepared(str(folder))
    assert prepared.class_names == ("NA", "null")  # and not missing values
    assert isinstance(prepared.images, np.memmap) and prepared.images[1, 0, 0] == 16
    assert prepared.rows("train").tolist() == [0] and prepared.rows("test").tolist() == [2]
    assert prepared.rows("test", "train").tolist() == [0, 2]
    assert prepared.index["label"].tolist() == [0, 1, 0]
    with pytest.raises(ConfigError, match="split must be one of train, validation, test, got 'val'"):
        prepared.rows("train", "val")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((2, 4, 4), np.uint8),
            r"images.npy must hold \(3, 4, 4\) pixels as meta.json says, found \(2, 4, 4\); run the split stage",
        ),
        (np.zeros((3, 4, 5), np.uint8), r"must hold \(3, 4, 4\) pixels as meta.json says, found \(3, 4, 5\)"),
        (np.zeros((3, 4, 4), np.float32), r"uint8 in C order, found \(3, 4, 4\) float32"),
        (np.zeros((3, 16), np.uint8), r"uint8 in C order, found \(3, 16\) uint8"),
        (np.zeros((3, 4, 4), np.uint8, order="F"), r"uint8 in C order, found \(3, 4, 4\) uint8"),
        (np.full((3, 4, 4), None), "images.npy cannot be read: Array can't be memory-mapped: Python objects in dtype"),
    ],
)
def test_wrong_images_are_refused(images, message, folder):
    np.save(folder / "images.npy", images, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        load_prepared(folder)


@pytest.mark.parametrize("keep", [0, 5, 100, 170])
def test_truncated_images_are_refused(keep, folder):
    content = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"images\.npy cannot be read: "):
        load_prepared(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c.png,NA,0,2,-1,test\n", "", "must have 3 rows as meta.json says, found 2"),
        ("c.png,NA,0,2,-1,test", "c.png,NA,2,2,-1,test", r"must have labels from 0 to 1, found \[.*2.*\]"),
        ("c.png,NA,0,2,-1,test", "c.png,NA,1,2,-1,test", "c.png has class 'NA' but label 1, which is 'null'"),
        ("c.png,NA,0,2,-1,test", "c.png,NA,x,2,-1,test", "index.csv cannot be read: "),
        ("-1,test", "-1,tset", "must have splits out of train, validation, test, found .*tset"),
        ("label,group", "group,label", "must have the columns path, class_name, label, group, fold, split, found path, class_name, group"),
    ],
)
def test_a_wrong_index_is_refused(old, new, message, folder):
    assert old in INDEX
    (folder / "index.csv").write_text(INDEX.replace(old, new))
    with pytest.raises(DataError, match=message):
        load_prepared(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "meta.json cannot be read as JSON"),
        ("[]", "meta.json must hold a JSON object, got list"),
        ("{}", "meta.json lacks class_names, images_sha256"),
        ('{"class_names": []}', "meta.json lacks images_sha256"),
    ],
)
def test_a_wrong_meta_is_refused(content, message, folder):
    (folder / "meta.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_prepared(folder)


@pytest.mark.parametrize("name", ["images.npy", "index.csv", "meta.json"])
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"{name}.*run the split stage again \(`dvc repro split`\)"):
        load_prepared(folder)
