"""Comparisons of two runs on the same images."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from ppdl.errors import DataError
from ppdl.evaluation.measures.statistics import INCONCLUSIVE, INFERIOR, NON_INFERIOR, TOO_FEW, compare, mcnemar_test, points
from ppdl.evaluation.predictions.predictions import Predictions

SETTINGS = {"margin": 0.02}


def two_runs(both: int, only_first: int, only_second: int, neither: int, group_size: int = 1) -> tuple[Predictions, Predictions]:
    """Return two runs that are right on so many images."""
    right = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, only_first, only_second, neither], axis=0).astype(bool)
    num_images = len(right)
    return tuple(
        Predictions(
            labels=np.zeros(num_images, int),
            logits=np.where(right[:, [column]], [1.0, 0.0], [0.0, 1.0]),
            groups=np.arange(num_images) // group_size,
            image_ids=np.arange(num_images),
            class_names=("A", "B"),
        )
        for column in (0, 1)
    )


def test_mcnemar_of_a_published_table():
    """Fagerland, Lydersen and Laake 2013, table 2 (airway responsiveness of 21 children): 1 against 7, exact 0.070, mid-p 0.039."""
    exact, mid = mcnemar_test(1, 7)
    assert exact == pytest.approx(0.0703, abs=5e-5)
    assert mid == pytest.approx(0.0391, abs=5e-5)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_the_sign_test(first, second):
    exact, mid = mcnemar_test(first, second)
    if first + second == 0:
        assert (exact, mid) == (1, 1)
        return
    assert exact == pytest.approx(binomtest(first, first + second).pvalue)
    fewer = min(first, second)
    half_of_it = binom.cdf(fewer - 1, first + second, 0.5) + binom.pmf(fewer, first + second, 0.5) / 2
    expected = 2 * half_of_it if first != second else 1 - binom.pmf(fewer, first + second, 0.5) / 2  # Fagerland et al., section 2
    assert mid == pytest.approx(expected)
    assert mcnemar_test(second, first) == pytest.approx((exact, mid))


def test_the_paired_interval_has_the_paired_error():
    """The known variance of a difference of paired shares: (b + c - (b - c)^2 / n) / n^2."""
    found = compare(*two_runs(1100, 30, 10, 60), **SETTINGS)
    error = np.sqrt((40 - 20**2 / 1200) / 1200**2)
    assert found.difference == pytest.approx(-20 / 1200)
    assert found.low == pytest.approx(found.difference - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(found.difference + 1.96 * error, abs=0.25 * error)
    assert (found.only_reference_right, found.only_protected_right) == (30, 10)
    assert (found.mcnemar_p, found.mcnemar_mid_p) == mcnemar_test(30, 10)


def test_pairing_narrows_the_interval(simulated):
    """Two runs with the same errors but for a few: the difference is known far better than either accuracy."""
    plain, protected = two_runs(1000, 3, 3, 194)
    found = compare(plain, protected, **SETTINGS)
    unpaired = 2 * 1.96 * np.sqrt(2 * 0.836 * 0.164 / 1200)
    assert found.high - found.low < unpaired / 5


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=30).filter(lambda rows: any(a != b for a, b in rows)))
def test_swapping_the_runs_mirrors_the_result(right):
    counts = [sum(pair == row for row in right) for pair in ((True, True), (True, False), (False, True), (False, False))]
    first, second = two_runs(*counts)
    there, back = (compare(*pair, margin=0.1) for pair in ((first, second), (second, first)))
    assert back.difference == pytest.approx(-there.difference)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.mcnemar_p == pytest.approx(there.mcnemar_p)
    assert there.low <= there.difference <= there.high


@pytest.mark.parametrize(
    ("counts", "verdict", "words"),
    [
        ((1150, 5, 5, 40), NON_INFERIOR, "it loses less than the margin of 2 points: non-inferior"),
        ((1000, 100, 10, 90), INFERIOR, "it loses more than the margin of 2 points: inferior"),
        ((1100, 40, 20, 40), INCONCLUSIVE, "the interval crosses the margin of -2 points: these images do not decide"),
    ],
)
def test_the_verdict_is_where_the_whole_interval_lies(counts, verdict, words):
    found = compare(*two_runs(*counts), **SETTINGS, names=("plain", "deterministic"))
    assert found.verdict == verdict
    assert {NON_INFERIOR: found.low > -0.02, INFERIOR: found.high < -0.02, INCONCLUSIVE: found.low <= -0.02 <= found.high}[verdict]
    assert words in found.sentence


def test_an_interval_that_ends_at_the_margin_does_not_decide():
    found = compare(*two_runs(1100, 40, 20, 40), **SETTINGS)
    for low, high in ((-0.02, 0.01), (-0.05, -0.02)):
        assert dataclasses.replace(found, low=low, high=high).verdict == INCONCLUSIVE
    assert found.sentence.startswith("protected is right on ") and " test images, plain on " in found.sentence


def test_the_sentence_is_made_of_the_figures():
    found = compare(*two_runs(1100, 30, 10, 60), **SETTINGS, names=("plain", "deterministic"))
    assert found.sentence == (
        "deterministic is right on 92.5 % of 1,200 test images, plain on 94.2 %: a difference of -1.7 points, 95 % interval "
        f"{points(found.low)} to {points(found.high)}; the interval crosses the margin of -2 points: these images do not decide. "
        "Images that only plain gets right: 30; that only deterministic gets right: 10 (McNemar, mid-p = 0.0015)."
    )


def test_points_have_a_sign_unless_they_are_none():
    assert [points(share) for share in (0.0123, -0.0123, 0.0004, -0.0004, 0)] == ["+1.2", "-1.2", "0.0", "0.0", "0.0"]


def test_runs_that_never_differ_still_have_an_interval():
    """None of 40 groups differs, so up to 1 - 0.025^(1/40) = 8.8 % might: too few to call a margin of 2 points safe."""
    plain, same = two_runs(60, 0, 0, 20, group_size=2)
    found = compare(plain, same, **SETTINGS)
    assert (found.low, found.high) == pytest.approx((-(1 - 0.025 ** (1 / 40)), 1 - 0.025 ** (1 / 40)))
    assert found.verdict == TOO_FEW
    assert "40 groups are too few for a margin of 2 points" in found.sentence and "it takes 183 groups of equal size" in found.sentence
    assert compare(*two_runs(150, 0, 0, 32), **SETTINGS).verdict == TOO_FEW  # 182 groups
    assert compare(*two_runs(150, 0, 0, 33), **SETTINGS).verdict == NON_INFERIOR


@pytest.mark.parametrize("num_groups", [3, 5, 10, 40])
def test_a_win_without_a_loss_shows_nothing_where_there_are_few_groups(num_groups):
    found = compare(*two_runs(num_groups - 1, 0, 1, 0), **SETTINGS)
    assert found.verdict == TOO_FEW
    assert found.difference - found.low >= 1 - 0.025 ** (1 / num_groups)  # what 0 of so many groups leave open
    assert f"{num_groups} groups are too few" in found.sentence


def test_fewer_than_five_groups_give_no_interval_but_everything():
    found = compare(*two_runs(0, 0, 4, 0), **SETTINGS)
    assert (found.low, found.high, found.verdict) == (-1, 1, TOO_FEW)


def test_few_groups_can_show_a_clear_loss_or_gain():
    assert compare(*two_runs(10, 20, 0, 10), **SETTINGS).verdict == INFERIOR
    assert compare(*two_runs(10, 0, 20, 10), **SETTINGS).verdict == NON_INFERIOR


def test_a_lost_group_never_narrows_the_interval():
    """One lost image among 40 groups of five: no tighter than if none was lost."""
    none, one = (compare(*two_runs(200 - lost, lost, 0, 0, group_size=5), **SETTINGS) for lost in (0, 1))
    assert one.low <= none.low + 1e-12


@pytest.mark.parametrize("num_groups", [10, 40])
def test_wins_do_not_cancel_the_losses_of_the_same_patients(num_groups):
    """All but one patient have two images, one won and one lost: nobody loses on balance, and what one in thirty does is not seen."""
    right = np.ones((num_groups, 2, 2), bool)
    right[1:] = np.eye(2, dtype=bool)
    plain, protected = two_runs(2 * num_groups, 0, 0, 0, group_size=2)
    runs = [dataclasses.replace(run, logits=np.eye(2)[1 - right[..., i].ravel()]) for i, run in enumerate((plain, protected))]
    found = compare(*runs, **SETTINGS)
    assert found.difference == 0 and -found.low >= 1 - 0.025 ** (1 / num_groups)
    assert found.verdict == TOO_FEW


def test_copies_in_a_group_are_no_further_evidence():
    """Every image four times in its group: the interval is that of the images, twice as wide as if copies were patients."""
    single = compare(*two_runs(100, 10, 5, 35), **SETTINGS)
    copied = compare(*two_runs(400, 40, 20, 140, group_size=4), **SETTINGS)
    naive = compare(*two_runs(400, 40, 20, 140), **SETTINGS)
    assert copied.high - copied.low == pytest.approx(single.high - single.low, rel=0.1)
    assert copied.high - copied.low == pytest.approx(2 * (naive.high - naive.low), rel=0.1)


def test_the_interval_of_the_difference_covers_the_truth():
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(200):
        found = compare(*two_runs(*rng.multinomial(300, [0.85, 0.06, 0.03, 0.06])), margin=0.02)
        covered += found.low <= -0.03 <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_only_runs_of_the_same_images_can_be_compared():
    plain, protected = two_runs(5, 2, 2, 1)
    moved = dataclasses.replace(protected, image_ids=protected.image_ids[::-1])
    with pytest.raises(DataError, match="runs 'plain' and 'opaque' must be tested on the same images in the same order"):
        compare(plain, moved, **SETTINGS, names=("plain", "opaque"))
