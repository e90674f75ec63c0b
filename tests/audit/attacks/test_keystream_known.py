"""What each place does to a pixel, from known images."""

import numpy as np
import pytest

from ppdl.audit.attacks.keystream_known import KeystreamKnown
from ppdl.audit.examination.base import Truth
from ppdl.audit.folder.pictures import target_of_pictures
from ppdl.errors import AttackDoesNotApply
from tests.audit import schemes
from tests.audit.schemes import SCHEMES

ATTACK = KeystreamKnown(num_known=(1, 2, 5, 10, 20), num_scored=8)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 32, 32)


def found(name, images, known=None):
    target = target_of_pictures("set", SCHEMES[name].protect(images, np.random.default_rng(0)), None)
    return ATTACK.examine(schemes.with_known(target, images, known), Truth(images), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("xor_one_pad", "a byte XORed of ciphertexts"),
        ("aes_ctr_one_nonce", "a byte XORed of ciphertexts"),
        ("added_one_pad", "a byte added of ciphertexts"),
        ("added_257_one_pad", "a byte added of ciphertexts"),
    ],
)
def test_one_known_image_gives_every_pixel_of_the_others(images, name, way):
    metrics = found(name, images).metrics
    assert metrics["way"] == way
    assert metrics["by_count"]["1"]["share"] == 1.0 and metrics["ssim"] == 1.0


@pytest.mark.parametrize(("name", "share"), [("lorenz_feedback", 0.9), ("dna_addition", 0.8)])
def test_more_known_images_give_more_pixels_where_a_table_is_to_be_learned(images, name, share):
    by_count = found(name, images).metrics["by_count"]
    shares = [by_count[str(count)]["share"] for count in (1, 5, 20)]
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > share


@pytest.mark.parametrize("name", ["noise", "xor_fresh", "added_fresh", "aes_cbc_fresh", "aes_ctr_fresh", "aes_gcm_fresh", "permuted_fresh"])
def test_nothing_is_found_without_reuse(images, name):
    finding = found(name, images)
    assert finding.metrics["leak"] is None and finding.rebuilt is None
    assert "chance" in finding.metrics["unseen"]


def test_only_other_images_are_rebuilt(images):
    rows = np.array([7, 3, 20])
    assert not np.isin(found("xor_one_pad", images, rows).rebuilt.rows, rows).any()


@pytest.mark.parametrize("count", [1, 32])
def test_does_not_apply_with_one_known_image_or_all(images, count):
    with pytest.raises(AttackDoesNotApply, match=f"{count} of 32"):
        found("xor_one_pad", images, np.arange(count))
