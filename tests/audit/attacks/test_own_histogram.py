"""Histograms that stay."""

from dataclasses import replace

import numpy as np
import pytest

from ppdl.audit.attacks.own_histogram import OwnHistogram
from ppdl.audit.examination.base import Truth
from ppdl.audit.examination.chance import FALSE_ALARM
from ppdl.audit.examination.setting import draw_queries
from ppdl.errors import AttackDoesNotApply
from tests.audit import schemes
from tests.audit.schemes import SCHEMES

ATTACK = OwnHistogram()


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 60, 32)


def found(name, images, queries=True):
    target, groups = schemes.target(SCHEMES[name].protect(images, np.random.default_rng(0)), None), np.arange(len(images))
    truth = Truth(images, groups)
    if queries:
        drawn = draw_queries(images, groups, 30, np.random.default_rng(1))
        target, truth = replace(target, queries=drawn.images), Truth(images, groups, drawn.groups, drawn.rows)
    return ATTACK.examine(target, truth, np.random.default_rng(0)).metrics


def test_pixels_that_were_moved_give_patients_away_by_their_histogram(images):
    metrics = found("permuted_fresh", images)
    assert metrics["leak"].startswith("each image keeps a histogram of its own")
    assert metrics["linked_top1"] > 0.3 > 6 * metrics["linked_chance_top1"]


def test_that_histograms_stay_is_seen_without_earlier_images_too(images):
    metrics = found("permuted_fresh", images, queries=False)
    assert metrics["leak"] and "linked_top1" not in metrics


@pytest.mark.parametrize(
    "name", ["noise", "xor_fresh", "added_fresh", "aes_cbc_fresh", "aes_ctr_fresh", "aes_gcm_fresh", "aes_ctr_one_nonce"]
)
def test_nothing_is_found_where_all_images_follow_one_law(images, name):
    metrics = found(name, images)
    assert metrics["leak"] is None and metrics["p_value"] > FALSE_ALARM
    assert "histograms that differ by" in metrics["unseen"]


@pytest.mark.parametrize("values", [256, 3], ids=["uniform", "few values, unevenly"])
def test_p_values_under_one_law_are_uniform(values):
    rng, low = np.random.default_rng(2), 0
    law = np.arange(1, values + 1) / np.arange(1, values + 1).sum()
    for _ in range(300):
        drawn = rng.choice(values, (6, 16, 16), p=law).astype(np.uint8)
        low += ATTACK.run(schemes.target(drawn, None), rng)[0]["p_value"] < 0.1
    assert 8 < low < 55  # 30 are expected, and 55 would be 4.8 standard deviations


def test_one_image_is_no_set_and_a_flat_one_has_no_histogram(images):
    with pytest.raises(AttackDoesNotApply, match="one image"):
        found("noise", images[:1], queries=False)
    flat = ATTACK.run(schemes.target(np.full((4, 32, 32), 9, np.uint8), None), np.random.default_rng(0))
    assert flat[0]["leak"] is None
