"""Blocks that occur again."""

import numpy as np
import pytest

from ppdl.audit.attacks.repeats import Repeats
from ppdl.audit.examination.base import Truth
from ppdl.audit.folder.pictures import target_of_pictures
from ppdl.errors import AttackDoesNotApply
from tests.audit import schemes
from tests.audit.schemes import SCHEMES

ATTACK = Repeats(num_scored=8)


@pytest.fixture(scope="module")
def images():
    return schemes.collimated(1, 24, 64)


def found(protected, images):
    return ATTACK.examine(target_of_pictures("set", protected, None), Truth(images), np.random.default_rng(0))


def protect(name, images, seed=0):
    return SCHEMES[name].protect(images, np.random.default_rng(seed))


@pytest.mark.parametrize(("name", "size"), [("aes_ecb", 16), ("3des_ecb", 8)])
def test_codebooks_are_found_with_the_size_of_their_blocks_and_a_map(images, name, size):
    finding = found(protect(name, images), images)
    assert finding.metrics["block_bytes"] == size
    assert "occur again" in finding.metrics["leak"]
    black = finding.rebuilt.images == 0
    border = images[finding.rebuilt.rows] == 0
    assert border[black].mean() > 0.9  # what repeats is the border, to which blocks are flat


def test_a_codebook_is_found_at_any_alignment(images):
    protected = protect("aes_ecb", images)
    assert found(np.roll(protected, 5, axis=2), images).metrics["leak"]


def test_equal_beginnings_under_one_iv_are_found(images):
    framed = images.copy()
    framed[:16, :2] = 0
    metrics = found(protect("aes_cbc_one_iv", framed), framed).metrics
    assert metrics["begin_alike"] >= 16 / 24
    assert "begin like another" in metrics["leak"]
    assert found(protect("aes_cbc_fresh", framed), framed).metrics["begin_alike"] == 0


@pytest.mark.parametrize("name", ["noise", "aes_cbc_fresh", "aes_ctr_fresh", "aes_gcm_fresh", "xor_one_pad", "permuted_fresh", "permuted"])
def test_nothing_is_found_where_no_block_repeats_more_than_by_chance(images, name):
    finding = found(protect(name, schemes.films(1, 24)), images)
    assert finding.metrics["leak"] is None and finding.rebuilt is None
    assert finding.metrics["unseen"].startswith("7 different blocks")


def test_black_borders_and_flat_pictures_are_no_blocks_of_a_cipher(images):
    assert found(protect("permuted_fresh", images), images).metrics["leak"] is None
    assert found(np.zeros_like(images), images).metrics["leak"] is None


def test_does_not_apply_to_numbers(images):
    with pytest.raises(AttackDoesNotApply, match="no bytes"):
        found(images.astype(np.uint16), images)
