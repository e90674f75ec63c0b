"""Phantoms: frozen drawings, in the layout of the real database, without a shortcut."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ppdl.config.components import construct
from ppdl.datasets.phantoms.film import CLASS_NAMES, render, render_with_lungs
from ppdl.datasets.phantoms.lungs import FINDINGS
from ppdl.datasets.sources.phantom import Phantom
from ppdl.errors import ConfigError, DataError
from ppdl.evaluation.measures.baselines import border_baseline

GOLDEN = json.loads((Path(__file__).parents[2] / "vectors/phantom_golden.json").read_text())
SMALL = {"classes": None, "on_bad_image": "raise", "num_images": 12, "images_per_patient": 2, "size_px": 32, "seed": 1}


@pytest.mark.parametrize("film", GOLDEN["films"], ids=lambda film: f"{film['class_name']}-{film['patient']}-{film['image']}")
def test_the_drawing_is_frozen(film):
    pixels = render(GOLDEN["seed"], film["class_name"], film["patient"], film["image"], GOLDEN["size_px"])
    assert pixels.dtype == np.uint8 and pixels.shape == (GOLDEN["size_px"],) * 2
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == film["sha256"]


def test_the_layout_is_that_of_the_real_database(tmp_path):
    Phantom(**SMALL).write_raw(tmp_path)
    rows = list(csv.DictReader((tmp_path / "index.csv").open()))
    assert len(rows) == 12
    assert {row["class_name"] for row in rows} == {"COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"}
    for row in rows:
        assert row["path"].startswith(f"{row['class_name']}/images/{row['class_name']}-") and row["path"].endswith(".png")
        for path in (row["path"], row["path"].replace("/images/", "/masks/")):
            with Image.open(tmp_path / path) as image:
                assert (image.mode, image.size) == ("L", (32, 32))
    patients = [row["patient"] for row in rows]
    assert all(patients.count(patient) <= 2 for patient in patients) and len(set(patients)) == 8


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_the_mask_holds_the_lungs_and_every_finding(class_name, monkeypatch):
    film, lungs = render_with_lungs(3, class_name, 1, 0, 128)
    assert np.array_equal(film, render(3, class_name, 1, 0, 128))
    assert set(np.unique(lungs)) == {0, 255} and 0.15 < np.mean(lungs > 0) < 0.5
    monkeypatch.setitem(FINDINGS, class_name, lambda chest, patient, image: np.zeros_like(chest.u))
    changed = film != render(3, class_name, 1, 0, 128)
    assert not changed[ndimage.distance_transform_edt(lungs == 0) > 2].any()  # the film's blur spreads a finding by two pixels
    assert (class_name == "Normal") is not changed.any()


def test_a_film_does_not_depend_on_how_many_there_are(tmp_path):
    for name, change in (("few", {}), ("many", {"num_images": 20}), ("two", {"classes": ["COVID", "Normal"], "num_images": 6})):
        (tmp_path / name).mkdir()
        Phantom(**SMALL | change).write_raw(tmp_path / name)
    few, many, two = ((tmp_path / name / "COVID/images/COVID-3.png").read_bytes() for name in ("few", "many", "two"))
    assert few == many == two


def test_seed_patient_image_and_class_change_the_film():
    films = [
        render(*args, 64) for args in ((1, "COVID", 0, 0), (2, "COVID", 0, 0), (1, "COVID", 1, 0), (1, "COVID", 0, 1), (1, "Normal", 0, 0))
    ]
    assert len({film.tobytes() for film in films}) == len(films)


def test_neither_the_border_nor_simple_statistics_give_the_class_away():
    """Linear probes, by patient: within 5 points of chance on the full set; the bound here allows for 240 films (3 standard errors)."""
    films = [(c, p, render(9, name, p, i, 96)) for c, name in enumerate(CLASS_NAMES) for p in range(30) for i in range(2)]
    labels = np.array([film[0] for film in films])
    groups = np.array([1000 * film[0] + film[1] for film in films])
    images = np.stack([film[2] for film in films])
    flat = images.reshape(len(images), -1).astype(float)
    statistics = np.stack([flat.mean(1), flat.std(1), flat.min(1), flat.max(1)], axis=1)
    right = np.zeros(2)
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, groups):
        probe = make_pipeline(StandardScaler(), LogisticRegression()).fit(statistics[train], labels[train])
        said = border_baseline(images, labels, train, test).argmax(1), probe.predict(statistics[test])
        right += [(answer == labels[test]).sum() for answer in said]
    assert (right / 240 < 0.25 + 0.05 + 3 * (0.25 * 0.75 / 240) ** 0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_images": 11}, r"dataset.num_images must be >= 12 \(3 for each of 4 classes\), got 11"),
        ({"images_per_patient": 0}, "dataset.images_per_patient: must be >= 1, got 0"),
        ({"size_px": 16}, "dataset.size_px: must be >= 32, got 16"),
        ({"seed": -1}, "dataset.seed: must be >= 0, got -1"),
        ({"classes": ["COVID", "Flu"]}, "dataset.classes of the phantom must be among COVID, .*, got Flu"),
        ({"on_bad_image": "skip"}, "dataset.on_bad_image: must be 'raise' or 'drop', got 'skip'"),
    ],
)
def test_a_wrong_parameter_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        construct(Phantom, SMALL | change, "dataset")


def test_a_folder_that_holds_images_is_left_alone(tmp_path):
    (tmp_path / "Normal/images").mkdir(parents=True)
    (tmp_path / "Normal/images/mine.png").write_bytes(b"an X-ray")
    with pytest.raises(DataError, match="must be empty before phantoms are written into it"):
        Phantom(**SMALL).write_raw(tmp_path)
    assert (tmp_path / "Normal/images/mine.png").read_bytes() == b"an X-ray"
