"""Whose films are in a total: found where they must be, and not where there is nothing to find."""

import numpy as np
import pytest

from ppdl.audit.pool.films import Films
from ppdl.audit.pool.membership import leverage, pool, quadratic
from ppdl.audit.pool.separation import separation
from ppdl.errors import DataError
from tests.audit.pool.pooled import draw, total_of


def of(scores: np.ndarray, num_members: int) -> dict:
    members, others = scores[:num_members], scores[num_members:]
    return separation(members, others, np.arange(len(members)), np.arange(len(others)))


def attacked(ratio: int, num_features: int, seed: int = 1):
    rng, n = np.random.default_rng(seed), ratio * num_features
    members, others, reference = draw(n, num_features, rng), draw(200, num_features, rng), draw(240, num_features, rng)
    return members + others, total_of(members), reference, n


def test_all_attacks_find_members_of_a_total_over_one_film_a_feature():
    candidates, total, reference, n = attacked(1, 40)
    assert of(leverage(candidates, total), n)["auc"] > 0.95
    assert of(quadratic(candidates, total, reference), n)["auc"] > 0.95
    assert of(pool(candidates, total), n)["auc"] > 0.99


def test_single_candidates_say_little_at_64_films_a_feature():
    candidates, total, reference, n = attacked(64, 16)
    assert of(leverage(candidates, total), n)["auc"] == pytest.approx(0.5, abs=0.09)
    assert of(quadratic(candidates, total, reference), n)["auc"] == pytest.approx(0.5, abs=0.09)


def test_a_pool_is_told_apart_above_the_floor():
    candidates, total, _, n = attacked(16, 40)
    assert of(pool(candidates, total), n)["auc"] > 0.95


def test_of_films_that_are_in_no_total_nothing_is_found():
    _, total, reference, _ = attacked(2, 40)
    strangers = draw(400, 40, np.random.default_rng(9))
    for scores in (leverage(strangers, total), quadratic(strangers, total, reference), pool(strangers, total)):
        result = of(scores, 200)
        assert result["auc_low"] < 0.5 < result["auc_high"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.zeros((2, 3))}, "features must be integers"),
        ({"features": np.zeros((0, 3), int)}, "at least one film"),
        ({"labels": np.zeros(3, int)}, "labels must be integers"),
        ({"labels": np.array([0, -1])}, "at least 0"),
        ({"groups": np.zeros(2)}, "groups must be integers"),
    ],
)
def test_malformed_films_are_refused(changes, message):
    parts = {"features": np.zeros((2, 3), int), "labels": np.zeros(2, int), "groups": np.zeros(2, int)}
    with pytest.raises(DataError, match=message):
        Films(**(parts | changes))


def test_a_label_beyond_the_classes_is_refused():
    with pytest.raises(DataError, match="below 2"):
        Films(np.zeros((1, 3), int), np.array([2]), np.zeros(1, int)).design(2)
