"""Where pixels were moved to, from known images."""

import numpy as np
import pytest

from ppdl.audit.attacks.permutation_known import PermutationKnown
from ppdl.audit.examination.base import Truth
from ppdl.errors import AttackDoesNotApply
from tests.audit import schemes
from tests.audit.schemes import SCHEMES

ATTACK = PermutationKnown(num_known=(1, 2, 5, 10, 20), num_scored=8)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 32, 32)


def found(name, images, known=None):
    target = schemes.target(SCHEMES[name].protect(images, np.random.default_rng(0)), None)
    return ATTACK.examine(schemes.with_known(target, images, known), Truth(images), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "pad"),
    [("permuted", "moved"), ("arnold", "moved"), ("henon_shuffle_xor", "moved, a byte XORed"), ("xor_one_pad", "moved, a byte XORed")],
)
def test_known_images_place_the_pixels_of_others(images, name, pad):
    finding = found(name, images)
    assert finding.metrics["pad"] == pad
    assert finding.metrics["share"] > 0.99 and finding.metrics["ssim"] > 0.99
    shares = [finding.metrics["by_count"][str(count)]["share"] for count in (1, 2, 5, 10)]
    assert shares == sorted(shares) and shares[3] > 0.95
    assert finding.metrics["by_count"]["20"]["placed"] == 1.0


@pytest.mark.parametrize("name", ["noise", "xor_fresh", "added_fresh", "aes_cbc_fresh", "aes_ctr_fresh", "aes_gcm_fresh", "permuted_fresh"])
def test_nothing_is_found_without_one_order(images, name):
    finding = found(name, images)
    assert finding.metrics["leak"] is None and finding.rebuilt is None
    assert "chance" in finding.metrics["unseen"]


@pytest.mark.parametrize("count", [3, 32])
def test_does_not_apply_with_few_known_images_or_all(images, count):
    with pytest.raises(AttackDoesNotApply, match=f"{count} of 32"):
        found("permuted", images, np.arange(count))
