"""Undoing the pixel-wise negative-positive transform."""

import numpy as np
import pytest

from ppdl.audit.attacks.negative_positive import NegativePositive
from ppdl.audit.examination.base import Target, Truth
from ppdl.config.components import construct
from ppdl.errors import AttackDoesNotApply, ConfigError
from tests.audit import schemes

ATTACK = NegativePositive(num_images=60, num_scored=10, prior_weight=1.0)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 60)


def test_one_key_for_all_images_is_undone(images):
    metrics = schemes.examine(ATTACK, schemes.negative_positive(images, np.random.default_rng(0)), images).metrics
    assert metrics["one_key"]
    assert metrics["ssim"] > 0.95


def test_channels_and_their_shuffle_do_not_matter(images):
    metrics = schemes.examine(ATTACK, schemes.negative_positive_colour(images, np.random.default_rng(0)), images).metrics
    assert metrics["one_key"]
    assert metrics["ssim"] > 0.95


@pytest.mark.parametrize("count", [60, 1], ids=["many images", "a single image"])
def test_a_key_for_each_image_is_undone_in_part(images, count):
    protected = schemes.negative_positive(images[:count], np.random.default_rng(0), one_key=False)
    metrics = schemes.examine(ATTACK, protected, images[:count]).metrics
    assert not metrics["one_key"]
    assert metrics["ssim"] > 0.6


def test_without_public_images_a_key_for_each_image_leaves_the_distance_from_middle_gray(images):
    protected = schemes.negative_positive(images, np.random.default_rng(0), one_key=False)
    rebuilt, one_key = ATTACK.run(Target("folder", *images.shape, picture=protected), np.random.default_rng(0))
    folded = np.where(images < 128, 255 - images.astype(int), images)[rebuilt.rows]
    assert not one_key
    np.testing.assert_array_equal(rebuilt.images, folded)


def test_identity_is_found(images):
    assert schemes.examine(ATTACK, images, images).metrics["ssim"] == 1.0


def test_nothing_is_found_in_noise(images):
    metrics = schemes.examine(ATTACK, schemes.noise(images, np.random.default_rng(0)), images).metrics
    assert not metrics["one_key"]
    assert metrics["ssim"] < 0.2  # signs follow public images, which makes noise a little like any patient


def test_does_not_apply_to_a_picture_of_another_size(images):
    target = Target("folder", *images.shape, picture=images[:, ::2, ::2])
    with pytest.raises(AttackDoesNotApply, match="another size"):
        ATTACK.examine(target, Truth(images), np.random.default_rng(0))


@pytest.mark.parametrize("arguments", [{"num_images": 0}, {"num_scored": 0}, {"prior_weight": -1.0}])
def test_refuses_bad_arguments(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        construct(NegativePositive, {"num_images": 1, "num_scored": 1, "prior_weight": 1.0} | arguments, "attack")
