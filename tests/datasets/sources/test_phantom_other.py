"""Phantoms of another device: the same anatomy, another look."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from PIL import Image

from ppdl.config import CONF, build
from ppdl.datasets.phantoms.film import STANDARD, Device, render_with_lungs
from ppdl.errors import ConfigError

NODE = yaml.safe_load((CONF / "dataset/phantom_other.yaml").read_text())


def draw(device):
    return render_with_lungs(3, "COVID", 0, 0, 96, device)


def test_a_device_without_differences_takes_the_frozen_films():
    np.testing.assert_array_equal(draw(Device())[0], draw(STANDARD)[0])


@pytest.mark.parametrize(
    "changed", [{"contrast": 1.4}, {"gamma": 0.8}, {"noise": 1.6}, {"collimation": 0.05}, {"letters": "PA"}], ids=lambda c: next(iter(c))
)
def test_each_difference_changes_the_film_and_leaves_the_lungs_where_they_are(changed):
    (own, own_lungs), (other, lungs) = draw(STANDARD), draw(Device(**changed))
    assert (own != other).any()
    np.testing.assert_array_equal(lungs, own_lungs)


def test_the_edges_are_black_and_letters_stand_on_them():
    film, _ = draw(Device(collimation=0.1))
    assert not film[:9].any() and not film[:, -9:].any() and film[20:-20, 20:-20].any()
    lettered, _ = draw(Device(collimation=0.1, letters="PA"))
    assert (lettered[-12:, :20] == 255).any() and np.array_equal(lettered[:80], film[:80])


def test_gray_levels_rise_as_gamma_falls():
    films = [draw(Device(gamma=gamma))[0].astype(int) for gamma in (1.25, 1.0, 0.8)]
    assert (np.diff(films, axis=0) >= -1).all() and (np.diff(films, axis=0) > 0).any()


def test_the_set_is_written_with_masks_and_one_patient_a_film(tmp_path):
    build(NODE | {"num_images": 12, "size_px": 64}, "dataset").write_raw(tmp_path)
    assert len(list(tmp_path.glob("*/images/*.png"))) == len(list(tmp_path.glob("*/masks/*.png"))) == 12
    patients = [line.split(",")[2] for line in (tmp_path / "index.csv").read_text().splitlines()[1:]]
    assert len(set(patients)) == 12
    assert Image.open(tmp_path / "COVID/images/COVID-1.png").size == (64, 64)


@pytest.mark.parametrize("letters", ["PAX", "P" * 11])
def test_letters_that_cannot_be_drawn_are_refused(letters):
    with pytest.raises(ConfigError, match="letters must be at most 10 of A, L, P, R"):
        build(NODE | {"letters": letters}, "dataset")
