"""Areas under the ROC curve, their intervals, and what would have been seen."""

import numpy as np
import pytest
from scipy.stats import norm

from ppdl.audit.examination.verdict import POWER
from ppdl.audit.pool.separation import auc_interval, effective_number, separation, smallest_auc
from ppdl.errors import DataError


def found(members, others):
    return separation(members, others, np.arange(len(members)), np.arange(len(others)))


def test_a_perfect_score_has_an_interval_all_the_same():
    result = found(np.arange(20.0) + 50, np.arange(30.0))
    assert result["auc"] == result["auc_high"] == 1 and 0.8 < result["auc_low"] < 1
    worst = found(np.arange(20.0), np.arange(30.0) + 50)
    assert worst["auc"] == worst["auc_low"] == 0 and worst["auc_high"] == pytest.approx(1 - result["auc_low"])


def test_ties_count_half():
    assert found(np.ones(5), np.ones(7))["auc"] == 0.5


@pytest.mark.parametrize("true", [0.5, 0.7, 0.95])
def test_the_interval_holds_the_true_area_19_times_of_20(true):
    rng, shift = np.random.default_rng(3), np.sqrt(2) * norm.ppf(true)
    results = [found(rng.normal(shift, 1, 60), rng.normal(0, 1, 40)) for _ in range(400)]
    assert 0.92 <= np.mean([r["auc_low"] <= true <= r["auc_high"] for r in results]) <= 0.985


def test_the_smallest_area_is_found_as_often_as_said():
    least, true = smallest_auc(60, 40)
    assert auc_interval(least + 1e-6, 60, 40)[0] > 0.5 > auc_interval(least - 1e-6, 60, 40)[0]
    rng, shift = np.random.default_rng(4), np.sqrt(2) * norm.ppf(true)
    counted = [found(rng.normal(shift, 1, 60), rng.normal(0, 1, 40))["auc_low"] > 0.5 for _ in range(400)]
    assert np.mean(counted) == pytest.approx(POWER, abs=0.07)


def test_too_few_never_count():
    assert min(smallest_auc(1, 1)) > 1


def test_films_of_one_patient_count_once():
    assert effective_number(np.repeat(np.arange(10), 4)) == pytest.approx(10)
    rng = np.random.default_rng(5)
    members, others = rng.normal(size=40), rng.normal(size=40)
    one = separation(members, others, np.arange(40), np.arange(40))
    four = separation(members, others, np.arange(40) // 4, np.arange(40) // 4)
    assert four["auc_low"] < one["auc_low"] and four["auc_found"] > one["auc_found"] and four["auc"] == one["auc"]


@pytest.mark.parametrize(("members", "message"), [(np.zeros(0), "at least one of each"), (np.array([np.nan]), "not finite")])
def test_what_cannot_be_scored_is_refused(members, message):
    with pytest.raises(DataError, match=message):
        separation(members, np.zeros(3), np.arange(len(members)), np.arange(3))
