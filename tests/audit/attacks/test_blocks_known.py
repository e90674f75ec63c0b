"""Linear maps of blocks, from known images."""

import numpy as np
import pytest

from ppdl.audit.attacks.blocks_known import BlocksKnown, solved
from ppdl.audit.examination.base import Truth
from ppdl.audit.folder.pictures import target_of_pictures
from ppdl.errors import AttackDoesNotApply
from tests.audit import schemes
from tests.audit.schemes import SCHEMES

ATTACK = BlocksKnown(num_known=(20,), num_scored=8)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 40, 32)


def found(protected, images, known=None):
    target = schemes.with_known(target_of_pictures("set", protected, None), images, known)
    return ATTACK.examine(target, Truth(images), np.random.default_rng(0))


def protect(name, images, seed=0):
    return SCHEMES[name].protect(images, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("name", "way", "least"), [("hill", "1 x 4 pixels", 1), ("learnable", "bits of 4 x 4 pixels", 1), ("dct_signs", "signs", 0.95)]
)
def test_linear_maps_are_read_off_known_images(images, name, way, least):
    metrics = found(protect(name, images), images).metrics
    assert metrics["way"].startswith(way)
    assert metrics["ssim"] >= least - 1e-9
    assert "nearer than from another's ciphertexts" in metrics["leak"]


@pytest.mark.parametrize("name", ["noise", "xor_fresh", "aes_ctr_fresh", "permuted_fresh"])
def test_nothing_is_read_from_images_that_are_encrypted_independently(images, name):
    finding = found(protect(name, images), images)
    assert finding.metrics["leak"] is None and finding.rebuilt is None
    assert "chance 50%" in finding.metrics["unseen"]


@pytest.mark.parametrize("modulus", [2, 256])
def test_equations_are_solved_modulo_powers_of_two(modulus):
    rng = np.random.default_rng(1)
    for _ in range(20):
        wanted, left = rng.integers(0, modulus, (5, 3)), rng.integers(0, modulus, (40, 5))
        np.testing.assert_array_equal(solved(left, left @ wanted % modulus, modulus), wanted)


def test_unknowns_that_no_equation_tells_are_zero():
    left = np.array([[1, 0, 3], [2, 0, 1]])
    x = solved(left, np.array([[7], [5]]), 256)
    assert x[1] == 0
    np.testing.assert_array_equal(left @ x % 256, [[7], [5]])


def test_does_not_apply_to_few_known_images_or_another_size(images):
    with pytest.raises(AttackDoesNotApply, match="3 of 40 images are known"):
        found(images, images, np.arange(3))
    with pytest.raises(AttackDoesNotApply, match="another size"):
        found(np.repeat(images, 2, axis=1), images)
