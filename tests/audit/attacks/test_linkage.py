"""Looking patients up: found through an identity, at chance through noise, and chance is computed exactly."""

import math
from itertools import combinations

import numpy as np
import pytest

from ppdl.audit.attacks.linkage import Linkage, LinkageView, chance_of_a_hit
from ppdl.audit.examination.base import Symbols, Target, Truth
from ppdl.audit.examination.release_view import release_view
from ppdl.datasets.phantoms.film import CLASS_NAMES, render
from ppdl.errors import AttackDoesNotApply
from ppdl.protections.steps.filters import Filters
from ppdl.protections.steps.revealed import Revealed

PX, NUM_PATIENTS = 64, 24


def films(seed, num_patients, num_films):
    return np.stack([render(seed, CLASS_NAMES[i % 4], i // 4, film, PX) for i in range(num_patients) for film in range(num_films)])


@pytest.fixture(scope="module")
def images():
    return films(3, NUM_PATIENTS, 2)


@pytest.fixture(scope="module")
def prior():
    return films(99, 60, 1)


def look_up(images, prior, attack=None, **parts):
    groups, rows = np.arange(len(images)) // 2, np.arange(0, len(images), 2)
    target = Target("anything", len(images), PX, PX, prior=prior, queries=images[rows], **parts)
    truth = Truth(images, groups, groups[rows], rows)
    return (attack or Linkage()).examine(target, truth, np.random.default_rng(0)).metrics


def test_patients_are_found_through_substituted_pixels(images, prior):
    substituted = np.random.default_rng(1).permutation(256).astype(np.uint8)[images]
    found = look_up(images, prior, symbols=Symbols(substituted, 256, None))
    assert found["top1"] > 0.6 and found["top5"] > 0.85 and found["top1_low"] > 5 * found["chance_top1"]
    assert found["num_queries"] == NUM_PATIENTS


def test_patients_are_found_in_pictures_that_are_the_images(images, prior):
    assert look_up(images, prior, picture=images)["top1"] > 0.6


def test_noise_is_at_chance(images, prior):
    noise = np.random.default_rng(2).integers(0, 256, (len(images), 5, 192), dtype=np.uint8)
    found = look_up(images, prior, ciphertexts=noise)
    assert found["top1_low"] <= found["chance_top1"] and found["top5"] < found["chance_top5"] + 0.25
    assert found["chance_top1"] == pytest.approx(1 / (2 * NUM_PATIENTS - 1))


def test_view_is_looked_at_and_not_the_ciphertexts(images, prior):
    array = release_view(images, stride=2, filters=Filters("dct", 3, 4), clip=1.0, clip_detail=0.25, noise=0.0, secret=None)
    noise = np.random.default_rng(3).integers(0, 256, (len(images), 5, 192), dtype=np.uint8)
    parts = {"view": Revealed(None, array), "ciphertexts": noise}
    assert look_up(images, prior, LinkageView(), **parts)["top1"] > 0.6
    assert look_up(images, prior, **parts)["top1"] < 0.3


def test_chance_is_the_share_of_rankings_with_a_hit():
    draws = list(combinations(range(7), 3))
    assert chance_of_a_hit(7, 2, 3) == pytest.approx(sum(0 in draw or 1 in draw for draw in draws) / len(draws))
    assert chance_of_a_hit(3, 1, 5) == 1.0


def test_score_leaves_the_query_out_and_counts_only_patients_with_another_image():
    groups = np.array([0, 0, 1, 2, 2])
    ranking = np.array([[0, 2, 1, 3, 4], [2, 0, 1, 3, 4], [4, 3, 0, 1, 2]])
    truth = Truth(None, groups, np.array([0, 1, 2]), np.array([0, 2, 4]))
    found = Linkage().score(ranking, truth).metrics
    assert (found["top1"], found["top5"], found["num_queries"]) == (0.5, 1.0, 2)
    assert found["chance_top1"] == pytest.approx(1 / 4) and math.isclose(found["chance_top5"], 1.0)


def test_query_that_is_no_row_is_searched_in_all_rows():
    truth = Truth(None, np.array([0, 1]), np.array([0]), np.array([-1]))
    found = Linkage().score(np.array([[0, 1]]), truth).metrics
    assert found["top1"] == 1.0 and found["chance_top1"] == 0.5


def test_no_patient_with_another_image_does_not_apply():
    with pytest.raises(AttackDoesNotApply, match="another image"):
        Linkage().score(np.array([[0, 1]]), Truth(None, np.array([0, 1]), np.array([0]), np.array([0])))


def test_nothing_to_look_at_does_not_apply(images, prior):
    with pytest.raises(AttackDoesNotApply, match="nothing"):
        look_up(images, prior)
