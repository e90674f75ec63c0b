"""What partial encryption leaves in the clear."""

import numpy as np
import pytest

from ppdl.audit.attacks.planes import Planes
from ppdl.audit.examination.base import Truth
from ppdl.audit.examination.blocks import joined, tiled
from ppdl.audit.examination.chance import FALSE_ALARM
from ppdl.errors import AttackDoesNotApply
from tests.audit import schemes
from tests.audit.schemes import SCHEMES, learnable

ATTACK = Planes(num_scored=8)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 60, 32)


def found(protected, images):
    return ATTACK.examine(schemes.target(protected, None), Truth(images), np.random.default_rng(0))


def protect(name, images, seed=0):
    return SCHEMES[name].protect(images, np.random.default_rng(seed))


@pytest.mark.parametrize(("mask", "hidden"), [(0x80, {7}), (0xC0, {6, 7}), (0x60, {5, 6})])
def test_encrypted_planes_are_told_from_those_in_the_clear(images, mask, hidden):
    protected = learnable.bit_planes(images, np.random.default_rng(0), mask=mask)
    metrics = found(protected, images).metrics
    assert set(metrics["planes"]) >= {4, 5, 6, 7} - hidden and not set(metrics["planes"]) & hidden
    assert "bit planes" in metrics["leak"] and metrics["partial"]


@pytest.mark.parametrize("name", ["msb_only", "low_planes"])
def test_the_planes_in_the_clear_are_drawn(images, name):
    finding = found(protect(name, images), images)
    mask = sum(1 << plane for plane in finding.metrics["planes"])
    clear = images[finding.rebuilt.rows] & mask
    drawn = np.rint(clear * (255 / mask)) if name == "msb_only" else clear + (255 - mask) // 2
    np.testing.assert_array_equal(finding.rebuilt.images, drawn)


@pytest.mark.parametrize("fresh", [False, True])
def test_sizes_of_coefficients_under_signs_are_found_and_drawn(fresh):
    images = schemes.collimated(1, 60)
    signed = learnable.dct_signs(images, np.random.default_rng(0), fresh=fresh)
    finding = found(np.clip(np.rint(signed + 128), 0, 255).astype(np.uint8), images)
    assert len(finding.metrics["bands"]) >= 3 and "sizes of DCT bands" in finding.metrics["leak"]
    assert finding.rebuilt.images.shape == (8, 64, 64)


@pytest.mark.parametrize("name", ["noise", "xor_fresh", "added_fresh", "aes_ctr_fresh", "xor_one_pad"])
def test_nothing_is_found_where_neighbours_have_nothing_in_common(images, name):
    finding = found(protect(name, images), images)
    assert finding.metrics["leak"] is None and finding.rebuilt is None
    assert finding.metrics["p_value"] > FALSE_ALARM


def test_the_mean_that_an_image_keeps_is_in_the_lowest_band_alone(images):
    metrics = found(protect("permuted_fresh", images), images).metrics
    assert metrics["planes"] == [] and metrics["bands"] == [0]


def test_a_law_of_values_or_of_places_that_all_images_share_is_not_found():
    rng = np.random.default_rng(3)
    skewed = rng.binomial(255, np.linspace(0.1, 0.9, 32), (60, 32, 32)).astype(np.uint8)
    assert found(skewed, skewed).metrics["leak"] is None


def test_p_values_on_noise_are_those_of_chance():
    rng = np.random.default_rng(5)
    low = sum(
        found(rng.integers(0, 256, (8, 16, 16), dtype=np.uint8), np.zeros((8, 16, 16), np.uint8)).metrics["p_value"] < 0.1
        for _ in range(100)
    )
    assert low < 24  # 10 or fewer are expected: 24 would be 4.7 standard deviations


def test_blocks_are_cut_and_joined_again():
    images = np.random.default_rng(0).integers(0, 256, (3, 19, 21), dtype=np.uint8)
    for shape in ((8, 8), (1, 4), (2, 2)):
        np.testing.assert_array_equal(joined(tiled(images, shape), images), images)


def test_does_not_apply_to_one_image_or_to_small_ones(images):
    for few in (images[:1], images[:, :8]):
        with pytest.raises(AttackDoesNotApply, match="two of 16 x 16"):
            found(few, few)
