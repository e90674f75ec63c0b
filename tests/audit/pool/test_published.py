"""Whose films a head was trained on: a head in floating point is the positive control."""

from dataclasses import replace

import numpy as np
import pytest

from ppdl.audit.pool.published import margins, pool
from ppdl.errors import DataError
from tests.audit.pool.pooled import draw, ridge
from tests.audit.pool.test_membership import of

FLOAT = 2**40  # levels of a weight


@pytest.mark.parametrize("levels", [FLOAT, 127])
def test_a_head_of_few_films_a_feature_tells_its_members_also_in_8_bits(levels):
    rng = np.random.default_rng(2)
    members, others = draw(400, 200, rng), draw(200, 200, rng)
    assert of(pool(members + others, ridge(members, levels=levels)), 400)["auc"] > 0.95


def test_coarser_heads_tell_less():
    rng = np.random.default_rng(3)
    members, others = draw(400, 100, rng), draw(200, 100, rng)
    fine, coarse = (of(pool(members + others, ridge(members, levels=levels)), 400)["auc"] for levels in (127, 1))
    assert coarse < fine - 0.1


def test_a_hospital_that_knows_its_own_films_tells_the_others_better():
    rng = np.random.default_rng(6)
    own, unknown, others = draw(400, 40, rng), draw(200, 40, rng), draw(200, 40, rng)
    head = ridge(own + unknown, levels=127)
    user = of(pool(own + unknown + others, head)[400:], 200)
    hospital = of(pool(unknown + others, head, own), 200)
    assert hospital["auc"] > user["auc"] + 0.02
    with pytest.raises(DataError, match="more than the 200 members"):
        pool(unknown, head, own)


def test_of_films_that_trained_no_head_nothing_is_found():
    rng = np.random.default_rng(4)
    head, strangers = ridge(draw(200, 40, rng), levels=127), draw(400, 40, rng)
    for scores in (pool(strangers, head), margins(strangers, head)):
        result = of(scores, 200)
        assert result["auc_low"] < 0.5 < result["auc_high"]


def test_a_margin_is_the_logit_of_the_class_above_the_next():
    films = draw(5, 4, np.random.default_rng(5))
    head = ridge(draw(50, 4, np.random.default_rng(6)), levels=127)
    logits = head.logits(films)
    expected = [row[k] - np.delete(row, k).max() for row, k in zip(logits, films.labels, strict=True)]
    assert margins(films, head) == pytest.approx(expected)


def test_wrong_parts_are_refused():
    films = draw(50, 4, np.random.default_rng(6))
    head = ridge(films, levels=127)
    with pytest.raises(DataError, match="must fit weights"):
        replace(head, bias=head.bias[:1])
    with pytest.raises(DataError, match="above 0"):
        replace(head, step=0.0)
    with pytest.raises(DataError, match="more than the 50 members"):
        pool(films, head)
