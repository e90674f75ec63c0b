"""What attackers are given is drawn from where it is said to be."""

import numpy as np
import pytest

from ppdl.audit.examination.setting import Settings, draw_known, draw_queries
from ppdl.config.components import construct
from ppdl.errors import ConfigError


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (120, 16, 16), dtype=np.uint8)


@pytest.mark.parametrize(("name", "value"), [("num_prior", 0), ("num_known", 1.5), ("num_queries", True), ("seed", -1)])
def test_settings_name_the_rule(name, value):
    values = {"num_prior": 10, "prior_seed": 1, "num_known": 5, "num_queries": 5, "num_scored": 3, "seed": 0}
    assert Settings(**values).num_prior == 10
    with pytest.raises(ConfigError, match=rf"^audit\.{name}: must be (>= [01]|an integer), got"):
        construct(Settings, values | {name: value}, "audit")


def test_known_images_come_from_the_rows_given(images):
    known = draw_known(images, np.arange(40, 80), 10, np.random.default_rng(1))
    assert len(known.rows) == 10 and set(known.rows) <= set(range(40, 80))
    assert (known.images == images[known.rows]).all()
    assert len(draw_known(images, np.arange(3), 10, np.random.default_rng(1)).rows) == 3


def test_queries_are_rows_of_patients_with_several_images(images):
    groups = np.repeat(np.arange(60), 2)
    groups[:20] = np.arange(1000, 1020)  # patients with one image
    queries = draw_queries(images, groups, 30, np.random.default_rng(1))
    assert len(queries.rows) == 30 == len(set(queries.groups)) and queries.groups.max() < 1000
    assert (queries.images == images[queries.rows]).all() and (groups[queries.rows] == queries.groups).all()


def test_single_images_are_taken_again(images):
    queries = draw_queries(images, np.arange(120), 30, np.random.default_rng(1))
    assert (queries.rows == -1).all() and len(set(queries.groups)) == 30
    originals = images[queries.groups]
    assert queries.images.shape == originals.shape and (queries.images != originals).any(axis=(1, 2)).all()
