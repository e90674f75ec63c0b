"""Seriation of one image at a time."""

import numpy as np
import pytest

from ppdl.audit.attacks.seriation_each import SeriationEach
from tests.audit import schemes
from tests.audit.schemes import SCHEMES

ATTACK = SeriationEach(num_images=3)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 40, 32)


@pytest.mark.parametrize(("name", "least", "most"), [("substituted_fresh", 0.6, 1.0), ("noise", -1.0, 0.2)])
def test_each_table_is_found_from_its_image_alone(images, name, least, most):
    metrics = schemes.examine(ATTACK, SCHEMES[name].protect(images, np.random.default_rng(0)), images).metrics
    assert least < metrics["ssim"] < most and not metrics["partial"]


def test_images_under_a_hidden_plane_are_called_a_part(images):
    assert schemes.examine(ATTACK, SCHEMES["msb_only"].protect(images, np.random.default_rng(0)), images).metrics["partial"]
