"""Lung masks keep company with their images, from the raw folder to the prepared one."""

import logging

import numpy as np
import pytest
from PIL import Image

from ppdl.datasets.images.masks import have_masks, mask_path, write_masks
from ppdl.datasets.preparing.prepare import Split, load_prepared, prepare
from ppdl.datasets.sources.base import write_index
from ppdl.errors import DataError

SPLIT = Split(test_fraction=0.2, validation_fraction=0.2, num_folds=None, fold=None, near_duplicate_bits=0, seed=1)


def half(row: int, size: int = 64, bright: int = 255) -> np.ndarray:
    """Return a mask of the rows above `row`."""
    return np.where(np.arange(size) < row, bright, 0).astype(np.uint8)[:, None].repeat(size, axis=1)


@pytest.fixture
def raw(tmp_path, picture):
    """Write ten images of two classes, and masks whose height is the image's number."""
    folder, rows = tmp_path / "raw", []
    for label, name in enumerate(("COVID", "Normal")):
        for kind in ("images", "masks"):
            (folder / name / kind).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(picture(10 * label + number, (128, 128))).save(folder / name / "images" / f"{number}.bmp")
            Image.fromarray(half(8 * (5 * label + number) // 2 + 4)).save(folder / name / "masks" / f"{number}.png")
            rows.append((f"{name}/images/{number}.bmp", name, ""))
    write_index(folder, rows)
    return folder


def prepared_from(raw, tmp_path):
    params = {"split": SPLIT, "prepared_px": 32, "on_bad_image": "raise", "params": {}}
    prepare(raw, tmp_path / "prepared", tmp_path / "reports", **params)
    return load_prepared(tmp_path / "prepared")


def test_every_mask_stands_in_its_images_row(raw, tmp_path):
    prepared = prepared_from(raw, tmp_path)
    assert prepared.masks.shape == prepared.images.shape and isinstance(prepared.masks, np.memmap)
    for row, path in enumerate(prepared.index["path"]):
        number = 5 * path.startswith("Normal") + int(path.split("/")[-1][0])
        assert prepared.masks[row].mean() / 255 == pytest.approx((8 * number // 2 + 4) / 64, abs=1e-3)


def test_gray_values_do_not_matter_and_edges_are_shares(tmp_path):
    (tmp_path / "A/masks").mkdir(parents=True)
    Image.fromarray(half(3, 8, bright=1)).save(tmp_path / "A/masks/one.png")
    Image.fromarray(half(3, 8)).convert("RGB").save(tmp_path / "A/masks/two.png")
    assert write_masks(tmp_path, ["A/images/one.dcm", "A/images/two.png"], tmp_path / "masks.npy", prepared_px=4, num_workers=2) == 2
    found = np.load(tmp_path / "masks.npy")
    assert np.array_equal(found[0], found[1]) and found[0, :, 0].tolist() == [255, 128, 0, 0]


def test_images_without_a_mask_that_can_be_read_get_none_and_a_warning(raw, tmp_path, caplog):
    (raw / "COVID/masks/0.png").unlink()
    (raw / "COVID/masks/1.png").write_bytes(b"no picture")
    Image.fromarray(half(0)).save(raw / "COVID/masks/2.png")
    with caplog.at_level(logging.WARNING):
        prepared = prepared_from(raw, tmp_path)
    assert sorted(prepared.index["path"][~prepared.masks.any(axis=(1, 2))]) == [f"COVID/images/{i}.bmp" for i in range(3)]
    assert any("3 of 10 images have no lung mask" in message for message in caplog.messages)


def test_masks_of_an_earlier_dataset_do_not_stay(raw, tmp_path):
    assert prepared_from(raw, tmp_path).masks is not None
    for path in raw.glob("*/masks/*"):
        path.unlink()
    assert not have_masks(raw, ["COVID/images/0.bmp"])
    assert prepared_from(raw, tmp_path).masks is None


def test_masks_of_another_number_of_images_are_refused(raw, tmp_path):
    prepared_from(raw, tmp_path)
    np.save(tmp_path / "prepared/masks.npy", np.zeros((9, 32, 32), np.uint8))
    with pytest.raises(DataError, match=r"masks.npy must hold \(10, 32, 32\) pixels as the images do, found \(9, 32, 32\)"):
        load_prepared(tmp_path / "prepared")


def test_where_a_mask_is():
    assert mask_path("Viral Pneumonia/images/a.b.dcm") == "Viral Pneumonia/masks/a.b.png"
