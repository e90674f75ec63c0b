"""One order of pixels for all images, from the ciphertexts alone."""

import numpy as np
import pytest

from ppdl.audit.attacks.permutation import Permutation
from ppdl.audit.examination.base import Target, Truth
from ppdl.audit.examination.chance import FALSE_ALARM
from ppdl.audit.examination.judge import octaves
from ppdl.errors import AttackDoesNotApply
from tests.audit import schemes
from tests.audit.schemes import SCHEMES

ATTACK = Permutation(num_images=40, num_scored=8)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 40, 32)


def found(protected, images, prior=True):
    return ATTACK.examine(schemes.target(protected, schemes.films(9, 100, 32) if prior else None), Truth(images), np.random.default_rng(0))


def protect(name, images, seed=0):
    return SCHEMES[name].protect(images, np.random.default_rng(seed))


@pytest.mark.parametrize("name", ["permuted", "arnold"])
def test_places_vary_together_and_are_put_back_so_that_patients_are_recognised(images, name):
    protected = protect(name, images)
    finding = found(protected, images)
    assert "vary together" in finding.metrics["leak"]
    assert finding.metrics["pairs_again"] > 0.2
    rows = finding.rebuilt.rows
    assert octaves(finding.rebuilt.images).mean() > octaves(protected[rows]).mean() + 0.3
    own = images - images.mean(0)  # what an image does not share with the others, which public images could not tell
    put_back = finding.rebuilt.images - images.mean(0)
    alike = (put_back.reshape(8, -1) @ own.reshape(40, -1).T) / np.linalg.norm(own.reshape(40, -1), axis=1)
    assert (alike.argmax(1) == rows).mean() > 0.7  # by chance 1 in 40


@pytest.mark.parametrize("name", ["noise", "xor_fresh", "aes_cbc_fresh", "aes_ctr_fresh", "aes_gcm_fresh", "permuted_fresh"])
def test_nothing_is_found_where_no_place_varies_like_another(images, name):
    finding = found(protect(name, images), images)
    assert finding.metrics["leak"] is None and finding.rebuilt is None
    assert finding.metrics["p_value"] > FALSE_ALARM
    assert "in both halves" in finding.metrics["unseen"]


def test_p_values_on_noise_are_those_of_chance():
    rng = np.random.default_rng(5)
    low = sum(
        ATTACK.run(schemes.target(rng.integers(0, 256, (8, 16, 16), dtype=np.uint8), None), rng).metrics["p_value"] < 0.1
        for _ in range(200)
    )
    assert low < 40  # 20 or fewer are expected: 40 would be 4.7 standard deviations


def test_without_public_images_nothing_is_put_back(images):
    finding = found(protect("permuted", images), images, prior=False)
    assert finding.metrics["leak"] and finding.rebuilt is None


def test_constant_images_have_no_places_to_compare(images):
    assert found(np.full_like(images, 7), images).metrics["leak"] is None


def test_does_not_apply_to_few_images_or_many_places(images):
    with pytest.raises(AttackDoesNotApply, match="7 images are too few"):
        found(images[:7], images[:7])
    large = Target("set", 8, 32, 32, picture=np.zeros((8, 129, 128), np.uint8))
    with pytest.raises(AttackDoesNotApply, match="129 x 128"):
        ATTACK.examine(large, Truth(images[:8]), np.random.default_rng(0))


def test_behind_a_pad_places_vary_together_and_are_not_put_back(images):
    finding = found(protect("xor_one_pad", images), images)
    assert finding.metrics["leak"] and finding.rebuilt is None
