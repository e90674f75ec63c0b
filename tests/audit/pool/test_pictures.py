"""From features back to pictures."""

import numpy as np
import pytest

from ppdl.audit.pool.pictures import Pictures
from ppdl.errors import DataError


def linear_pictures():
    """Return pictures that are a linear map of their features, so that a linear map gives them back."""
    rng = np.random.default_rng(7)
    basis = rng.normal(size=(5, 16, 16)).cumsum(1).cumsum(2)
    features = rng.uniform(0, 4095, (120, 5))
    images = np.clip(128 + 60 * np.tensordot(features / 4095 - 0.5, basis / abs(basis).max(), 1), 0, 255).round().astype(np.uint8)
    return features, images


def test_a_linear_picture_comes_back_far_better_than_a_blind_guess():
    features, images = linear_pictures()
    pictures = Pictures(features[:100], images[:100], np.arange(20), images[100:])
    assert pictures.score(pictures.rebuild()(features[100:]))["ssim"] > max(0.9, pictures.blind()["ssim"] + 0.1)


def test_features_that_say_nothing_give_no_better_than_a_blind_guess():
    features, images = linear_pictures()
    pictures = Pictures(np.random.default_rng(8).uniform(0, 4095, (100, 5)), images[:100], np.arange(20), images[100:])
    assert pictures.score(pictures.rebuild()(features[100:]))["ssim"] < pictures.blind()["ssim"] + 0.1


def test_other_sizes_are_refused():
    features, images = linear_pictures()
    with pytest.raises(DataError, match="of one size"):
        Pictures(features, images, np.arange(20), images[:20, :8])
