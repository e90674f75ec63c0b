"""The look at the picture as it is."""

import numpy as np
import pytest

from ppdl.audit.attacks.as_is import AsIs, is_negative, likeness
from ppdl.audit.examination.base import PICTURE, Target, Truth
from ppdl.config.components import construct
from ppdl.errors import AttackDoesNotApply, ConfigError
from tests.audit import schemes

ATTACK = AsIs(num_scored=20, median_px=3)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 30)


@pytest.mark.parametrize(
    ("protect", "look"),
    [
        (lambda images: images, "same"),
        (lambda images: 255 - images, "same"),  # turned back by public images
        (schemes.paillier_without_randomness, "same"),
        (lambda images: np.repeat(images[..., None], 3, axis=3), "same"),
    ],
    ids=["identity", "inverted", "paillier r=1", "colour"],
)
def test_finds_images_that_were_not_encrypted(images, protect, look):
    finding = schemes.examine(ATTACK, protect(images), images)
    assert finding.metrics["ssim"] > 0.99
    assert finding.metrics["look"] == look


def test_finds_nothing_in_noise(images):
    metrics = schemes.examine(ATTACK, schemes.noise(images, np.random.default_rng(0)), images).metrics
    assert metrics["ssim"] < 0.1


def test_looks_through_a_median_filter_at_lost_pixels(images):
    rng = np.random.default_rng(0)
    lost = np.where(rng.random(images.shape) < 0.1, rng.integers(0, 256, images.shape), images).astype(np.uint8)
    metrics = schemes.examine(ATTACK, lost, images).metrics
    assert metrics["look"] == "median"
    assert metrics["ssim"] > 0.8


def test_a_picture_of_another_size_is_brought_to_that_of_the_images(images):
    large = images.repeat(3, 1).repeat(3, 2)
    target = Target("folder", *images.shape, picture=large)
    assert ATTACK.examine(target, Truth(images), np.random.default_rng(0)).metrics["ssim"] == 1.0


def test_needs_a_picture(images):
    assert ATTACK.needs == {PICTURE}
    with pytest.raises(AttackDoesNotApply, match="no picture"):
        ATTACK.examine(Target("folder", *images.shape), Truth(images), np.random.default_rng(0))


def test_likeness_tells_a_negative(images):
    assert is_negative(255 - images, schemes.films(9, 30))
    assert not is_negative(images, schemes.films(9, 30))
    assert not is_negative(255 - images, None)
    assert likeness(np.zeros((4, 4)), np.eye(4)) == 0.0


@pytest.mark.parametrize("arguments", [{"num_scored": 0}, {"median_px": 4}, {"median_px": 1}])
def test_refuses_bad_arguments(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        construct(AsIs, {"num_scored": 1, "median_px": 3} | arguments, "attack")
