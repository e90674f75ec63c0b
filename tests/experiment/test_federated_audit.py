"""The audit of updates finds what an update tells, and nothing in one that tells nothing."""

import numpy as np
import pytest

from benchmarks import federated_audit as audit
from ppdl.audit.pool.separation import separation

NAMES, PER = ("anna", "berta", "carl"), 60


def losses_of(effect, seed=0):
    """Return losses where a hospital's update lowers those of its own films by `effect` more than others', and owner, labels, groups."""
    rng = np.random.default_rng(seed)
    owner = np.repeat([0, 1, 2, -1], PER)
    labels, groups = np.arange(len(owner)) % 3, np.arange(len(owner))
    before = rng.normal(2, 1, len(owner))
    after = {name: before - rng.normal(0.3, 0.1, len(owner)) - effect * (owner == number) for number, name in enumerate(NAMES)}
    return {"before": before, "sum": before - rng.normal(0.3, 0.1, len(owner)), **after}, owner, labels, groups


def found(effect, seed=0):
    losses, *of = losses_of(effect, seed)
    return {(attack, surface): row for attack, surface, row in audit.film_attacks(losses, NAMES, *of)}


def test_an_update_that_tells_is_found():
    rows = found(1.0)
    for attack in ("hospital, AUC", "hospital within class, AUC", "membership, change of loss"):
        assert rows[attack, "single"]["value"] > 0.99 and rows[attack, "single"]["low"] > 0.9
    for attack in ("hospital, top 1", "hospital within class, top 1"):
        assert rows[attack, "single"]["value"] > 0.99 and rows[attack, "single"]["null"] == pytest.approx(1 / 3, abs=0.01)
    assert rows["membership, change of loss", "sum"]["low"] < 0.5 < rows["membership, change of loss", "sum"]["high"]


def test_an_update_that_tells_nothing_is_rarely_said_to_tell():
    alarms = [row["low"] > row["null"] or row["high"] < row["null"] for seed in range(20) for row in found(0.0, seed).values()]
    assert len(alarms) == 160 and np.mean(alarms) < 0.08


def test_effects_as_large_as_said_are_found_four_times_of_five():
    rng, member = np.random.default_rng(1), np.repeat([True, False], 100)
    strata, groups = np.arange(200) % 2, np.arange(200)
    null = audit.told(rng.normal(size=200), member, strata, groups)
    moved = np.sqrt(2) * 0.4307  # of normal scores with the area that is said to be found
    assert null["found"] == pytest.approx(0.61, abs=0.01)
    shift = moved * (null["found"] - 0.5) / 0.1667
    seen = [audit.told(rng.normal(size=200) + shift * member, member, strata, groups)["low"] > 0.5 for _ in range(300)]
    assert 0.7 < np.mean(seen) < 0.9


def test_one_stratum_is_scored_as_an_audit_scores_it():
    rng, member = np.random.default_rng(2), np.repeat([True, False], [80, 40])
    scores, groups = rng.normal(size=120) + 0.5 * member, np.arange(120) // 2
    one = audit.told(scores, member, np.zeros(120, int), groups)
    other = separation(scores[member], scores[~member], groups[member], groups[~member])
    assert one["value"] == other["auc"]
    assert (one["low"], one["high"], one["found"]) == pytest.approx((other["auc_low"], other["auc_high"], other["auc_found"]), abs=0.02)


def test_films_that_are_used_more_often_and_patients_with_more_films_say_less():
    rng, member = np.random.default_rng(3), np.repeat([True, False], 100)
    scores = rng.normal(size=200)
    plain, thrice = (audit.told(scores, member, np.zeros(200, int), np.arange(200), uses) for uses in (1, 3))
    patients = audit.told(scores, member, np.zeros(200, int), np.arange(200) // 4)
    assert plain["value"] == thrice["value"] == patients["value"]
    assert plain["found"] < min(thrice["found"], patients["found"])


def test_rounds_together_tell_more_than_one():
    several = [losses_of(0.1, seed) for seed in range(6)]
    found = [several[0][0], audit.together([losses for losses, *_ in several])]
    one, all_six = ({row[:2]: row[2] for row in audit.film_attacks(losses, NAMES, *several[0][1:])} for losses in found)
    assert all_six["hospital, AUC", "single"]["value"] > one["hospital, AUC", "single"]["value"] + 0.1
    assert all_six["membership, change of loss", "single"]["value"] > one["membership, change of loss", "single"]["value"] + 0.1


def test_class_alone_tells_no_hospital_within_classes():
    losses, owner, _, groups = losses_of(0.0)
    labels = np.where(owner < 0, groups % 3, (owner + (groups % 4 == 0)) % 3)  # most films of a hospital are of one class
    for number, name in enumerate(NAMES):
        losses[name] = losses[name] - 1.0 * (labels == number)
    rows = {(attack, surface): row for attack, surface, row in audit.film_attacks(losses, NAMES, owner, labels, groups)}
    assert rows["hospital, AUC", "single"]["low"] > 0.7
    within = rows["hospital within class, AUC", "single"]
    assert within["low"] < 0.5 < within["high"]


def test_class_shares_are_told_by_updates_that_follow_them_and_by_no_others():
    rng = np.random.default_rng(4)
    films = np.concatenate([rng.multinomial(280, rng.dirichlet([0.3] * 3), 1) for _ in range(24)]) + 1
    shares, steps = films / films.sum(axis=1, keepdims=True), np.ceil(films.sum(axis=1, keepdims=True) / 32)
    told = np.concatenate([np.repeat(shares[:, None], audit.NUM_FEATURES, axis=1).reshape(24, -1), shares], axis=1) * steps
    told += rng.normal(size=told.shape) * 0.01
    for updates, least, most in ((told, 0.99, 1.0), (rng.normal(size=told.shape), -0.5, 0.5)):
        rows = [row for *_, row in audit.label_mix(updates, films)]
        assert len(rows) == 2 and all(least <= row["value"] <= most for row in rows)
        assert all((row["low"] > 0) == (least > 0) for row in rows)


def test_features_come_back_from_the_gradient_of_one_film():
    rng = np.random.default_rng(5)
    features, error = rng.uniform(0, 6, 1280), np.array([-0.7, 0.5, 0.2])
    back = audit.features_of(np.outer(features, error), error)
    assert audit.relative_error(back, features) < 1e-12
    second = np.array([0.3, -0.6, 0.3])
    two = np.outer(features, error) + np.outer(rng.uniform(0, 6, 1280), second)
    assert audit.relative_error(audit.features_of(two, error + second), features) > 0.1
