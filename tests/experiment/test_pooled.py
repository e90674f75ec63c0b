"""What a hospital on its own machine brings: its prepared films of training and validation, under the run's names of the classes."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from ppdl.errors import ConfigError, DataError
from ppdl.experiment.pooled import own_films
from ppdl.training.networks import features


@pytest.fixture
def folder(tmp_path):
    """Six films of two classes at 4 px, one in the test split, and a backbone whose features are the first two pixels."""
    images = np.random.default_rng(1).integers(0, 256, (6, 4, 4), dtype=np.uint8)
    names, splits = ["B", "A", "B", "A", "B", "A"], ["train", "train", "validation", "train", "test", "validation"]
    rows = {"path": list("abcdef"), "class_name": names, "label": ["AB".index(name) for name in names], "group": range(6), "fold": -1}
    np.save(tmp_path / "images.npy", images)
    pd.DataFrame(rows | {"split": splits}).to_csv(tmp_path / "index.csv", index=False)
    meta = {"class_names": ["A", "B"], "images_sha256": "0" * 64, "num_images": 6, "prepared_px": 4, "params": {}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "backbone.keras").write_bytes(b"public")
    return tmp_path


def test_films_of_training_and_validation_are_brought_by_the_names_of_their_classes(folder, monkeypatch):
    monkeypatch.setattr(
        features, "load_extractor", lambda path, *, sha256: lambda images, rows: images[rows].reshape(len(rows), -1)[:, :2] / 255
    )
    films = own_films(folder, folder / "backbone.keras", 4, 4, ["A", "between", "B"])
    images, rows = np.load(folder / "images.npy"), [0, 1, 2, 3, 5]
    assert films.labels.tolist() == [2, 0, 2, 0, 0]
    assert films.features.tolist() == np.rint(images[rows].reshape(5, -1)[:, :2] / 255 * 4095).astype(int).tolist()
    assert films.digests == [hashlib.sha256(images[row].tobytes()).digest() for row in rows]


def test_films_of_another_size_or_class_are_refused_before_any_work(folder):
    with pytest.raises(ConfigError, match="holds images of 4 px, and the run is of 128: prepare them so"):
        own_films(folder, folder / "backbone.keras", 4, 128, ["A", "B"])
    with pytest.raises(DataError, match="has the class 'B', and the run is of A, C: leave its films out"):
        own_films(folder, folder / "backbone.keras", 4, 4, ["A", "C"])
