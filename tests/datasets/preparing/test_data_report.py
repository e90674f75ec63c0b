"""The contact sheet shows what it says."""

import numpy as np
import pandas as pd
from PIL import Image

from ppdl.datasets.prepared.splitting import Split
from ppdl.datasets.preparing.data_report import draw_contact_sheet, write_report
from ppdl.datasets.preparing.scan import Picture, Selection

NAMES = ["Lung_Opacity", "$Normal_{x"]  # matplotlib would take the second for a formula


def case(tmp_path):
    index = pd.DataFrame(
        {
            "path": [f"{NAMES[i % 2]}/images/$a_{i}$.png" for i in range(12)],
            "class_name": [NAMES[i % 2] for i in range(12)],
            "label": [i % 2 for i in range(12)],
            "group": list(range(12)),
            "fold": -1,
            "split": ["train"] * 8 + ["validation"] * 2 + ["test"] * 2,
        }
    )
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=np.uint8)
    return images, index


def test_the_contact_sheet_shows_each_class_in_its_row(tmp_path):
    images, index = case(tmp_path)
    grid = np.array(draw_contact_sheet(images, index, NAMES, seed=0).axes).reshape(2, -1)
    for label, row in enumerate(grid):
        assert row[0].get_ylabel() == NAMES[label].replace("_", " ")
        shown = [axes for axes in row if axes.images]
        assert len(shown) == 6
        for axes in shown:
            name, split = axes.get_title().split("\n")
            number = int(name.strip("$.png").removeprefix("a_").removesuffix("$"))
            assert number % 2 == label and split == index["split"][number]
            assert np.array_equal(axes.images[0].get_array(), images[number])


def test_the_files_are_whole_and_the_same_each_time(tmp_path):
    images, index = case(tmp_path)
    pictures = [Picture(b"", np.zeros(32, np.uint8), False)] * 12
    selection = Selection(np.arange(12), np.arange(12), pictures, [], [])
    split = Split(test_fraction=0.2, validation_fraction=0.1, num_folds=None, fold=None, near_duplicate_bits=26, seed=1)
    contents = []
    for _ in range(2):
        write_report(tmp_path, images, index, NAMES, selection, np.arange(12), split, {"num_masks": 0, "num_without_patient": 0})
        contents.append({path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"data.json", "dropped.csv", "contact_sheet.png"}
    with Image.open(tmp_path / "data/contact_sheet.png") as image:
        assert image.width > 500 and len(image.convert("L").getcolors()) > 20
