"""The attacks of all parties on one run: what stands in an audit."""

import numpy as np
import pytest

from ppdl.audit.examination.verdict import judge
from ppdl.audit.pool.films import Films
from ppdl.audit.pool.parties import Pooled, attack_parties
from ppdl.audit.pool.pictures import Pictures
from ppdl.experiment.pool_view import PooledHeads
from tests.audit.pool.pooled import LARGEST, NUM_CLASSES, draw

NUM_FEATURES = 40
HEADS = PooledHeads((0.001, 0.01, 0.1, 1.0), 12, ("a", "b", "c"))


def numbered(films: Films, start: int) -> Films:
    return Films(films.features, films.labels, films.groups + start)


@pytest.fixture(scope="module")
def pooled():
    rng = np.random.default_rng(3)
    drawn = [numbered(draw(n, NUM_FEATURES, rng), start) for n, start in ((60, 0), (60, 100), (60, 200), (100, 300))]
    images = rng.integers(0, 256, (70, 16, 16), dtype=np.uint8)
    public = rng.integers(0, LARGEST, (60, NUM_FEATURES))
    hospitals = dict(zip(("anna", "bert", "carl"), drawn, strict=False))
    return Pooled(hospitals, drawn[-1], NUM_CLASSES, HEADS, Pictures(public, images[:60], np.arange(10), images[60:]))


@pytest.fixture(scope="module")
def found(pooled):
    return attack_parties(pooled, np.random.default_rng(0))


def test_every_attack_says_who_makes_it_and_what_would_have_been_found(found):
    results, _ = found
    for name, figures in results.items():
        assert {"party", "surface", "needs", "knowledge", "source", "seconds"} <= figures.keys(), name
    told = {name: figures for name, figures in results.items() if "auc" in figures}
    assert {figures["party"] for figures in told.values()} == {
        "key holder",
        "key holder with one hospital",
        "one hospital",
        "user of the head",
    }
    assert all(figures["auc_low"] <= figures["auc"] <= figures["auc_high"] and figures["auc_found"] > 0.5 for figures in told.values())


def test_who_has_one_hospitals_sums_tells_its_films_better_than_who_has_the_total(found):
    results, _ = found
    assert results["two_parties_leverage"]["auc"] > results["key_holder_leverage"]["auc"] + 0.1
    assert results["key_holder_pool"]["auc"] > 0.95
    assert results["hospital_pool"]["num_members"] == 120 and results["user_pool"]["num_members"] == 180


def test_fewer_films_a_feature_tell_more(found):
    rows = found[0]["fewer_films"]["by_ratio"]
    assert [row["films a feature"] for row in rows] == [1, 2, 4]
    assert rows[0]["leverage"] > rows[-1]["leverage"] + 0.1


def test_the_last_hospital_and_a_single_film_are_exact(found):
    results, rebuilt = found
    assert results["subtraction"]["largest_error_of_last_hospital"] == 0
    assert results["single_film"]["features_exact"] is True
    assert rebuilt["single_film"].images.shape == (10, 16, 16)
    assert results["single_film"]["ssim"] < results["single_film"]["blind_ssim"] + 0.1  # of images that have nothing to do with features


def test_the_verdict_names_the_parties_that_tell_members(found):
    verdict = judge(found[0])
    assert verdict.level == "leaky" and "key holder (area under the ROC curve 1.00" in verdict.sentence
    nothing = {"auc": 0.55, "auc_low": 0.45, "auc_high": 0.65, "auc_found": 0.64, "party": "user of the head", "surface": "pool"}
    quiet = judge({"user_pool": nothing})
    assert quiet.level == "unbroken" and "user of the head, where 0.64 would have been found 80% of the time" in quiet.sentence


def test_the_attackers_head_is_the_integer_head_and_its_penalty_nearly_that_of_the_members(pooled):
    members = pooled.members
    head, strength = HEADS.fit(members)
    views = [HEADS(members)(films) for films in (members + pooled.others, members)]
    small = members.features * (255 / LARGEST)
    np.testing.assert_allclose(views[0].logits(members), (small @ head.weights.T + head.bias) * head.logit_scale, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(views[1].penalty, strength * len(members) * members.features.var(axis=0), rtol=1e-9)
    np.testing.assert_allclose(views[0].penalty, views[1].penalty, rtol=0.3)
    assert views[0].num_films == len(members)


def test_the_last_half_of_others_is_scored_where_the_first_is_the_reference(pooled):
    results, _ = attack_parties(pooled, np.random.default_rng(1))
    assert results["key_holder_quadratic"]["num_others"] == 50 and results["key_holder_leverage"]["num_others"] == 100
