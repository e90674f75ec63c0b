"""The permutation test is exact, respects groups, and finds what there is to find."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from ppdl.errors import ConfigError
from ppdl.evaluation.measures.permutation import AT_CHANCE, BEATS_CHANCE, CANNOT_TELL, permutation_test
from ppdl.evaluation.predictions.predictions import Predictions


def run(labels, predicted, groups=None, num_classes=3):
    labels = np.asarray(labels)
    return Predictions(
        labels=labels,
        logits=np.eye(num_classes)[np.asarray(predicted)],
        groups=np.arange(len(labels)) if groups is None else groups,
        image_ids=np.arange(len(labels)),
        class_names=tuple("ABCD"[:num_classes]),
    )


def p_value(predictions, num_permutations=199, alpha=0.05, seed=0):
    return permutation_test(predictions, num_permutations=num_permutations, seed=seed, alpha=alpha).p_value


def test_single_images_give_the_p_value_of_scipy():
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=60)
    predicted = np.where(rng.random(60) < 0.25, labels, rng.integers(3, size=60))
    found = permutation_test(run(labels, predicted), num_permutations=20_000, seed=1, alpha=0.01)
    theirs = stats.permutation_test(
        (labels,), lambda of: balanced_accuracy_score(of, predicted), permutation_type="pairings", n_resamples=4000,
        alternative="greater", rng=np.random.default_rng(2)
    )  # fmt: skip
    assert 0.001 < theirs.pvalue < 0.2
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.015)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.expected == pytest.approx(1 / 3, abs=0.01)


def test_the_p_value_is_that_of_all_permutations():
    """Six groups of two sizes, some with images of two classes: 3! * 3! ways to move labels within a size, counted one by one."""
    labels = np.array([0, 1, 2, 0, 0, 1, 2, 2, 0])
    predicted = np.array([0, 1, 2, 0, 1, 1, 2, 0, 0])
    groups = np.array([0, 1, 2, 3, 3, 4, 4, 5, 5])
    observed, at_least, total = balanced_accuracy_score(labels, predicted), 0, 0
    for ones, twos in itertools.product(itertools.permutations(range(3)), itertools.permutations(range(3))):
        moved = np.concatenate([labels[:3][list(ones)], labels[3:].reshape(3, 2)[list(twos)].ravel()])
        at_least += balanced_accuracy_score(moved, predicted) >= observed - 1e-12
        total += 1
    found = p_value(run(labels, predicted, groups), num_permutations=40_000)
    assert total == 36
    assert 0.05 < at_least / total < 0.5
    assert found == pytest.approx(at_least / total, abs=0.01)


def test_chance_is_rejected_as_often_as_the_level_says_and_not_without_the_groups():
    """400 networks that answer the same for all images of a patient, whatever the class: exact by patients, wrong by images."""
    rng = np.random.default_rng(3)
    rejected = {"by patients": 0, "by images": 0}
    for study in range(400):
        sizes = rng.integers(1, 6, size=30)
        patients = np.repeat(np.arange(30), sizes)
        labels, predicted = rng.integers(3, size=30)[patients], rng.integers(3, size=30)[patients]
        rejected["by patients"] += p_value(run(labels, predicted, patients), num_permutations=99, seed=study) <= 0.05
        rejected["by images"] += p_value(run(labels, predicted), num_permutations=99, seed=study) <= 0.05
    assert rejected["by patients"] / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert rejected["by patients"] / 400 >= 0.02  # exact, not merely cautious
    assert rejected["by images"] / 400 > 0.1


def test_a_network_that_knows_something_beats_chance():
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(200) % 3, 2)
    predicted = np.where(rng.random(400) < 0.3, labels, rng.integers(3, size=400))
    found = permutation_test(run(labels, predicted, np.repeat(np.arange(200), 2)), num_permutations=10_000, seed=0, name="opaque")
    assert found.p_value == pytest.approx(1 / 10_001)
    assert found.verdict == BEATS_CHANCE
    assert found.num_movable == 400
    assert "opaque beats chance: something about the labels can be learnt from its input" in found.sentence
    assert "0 of 10,000 shuffles" in found.sentence


def test_a_network_that_always_says_the_same_is_at_chance():
    found = permutation_test(run(np.arange(90) % 3, np.zeros(90, int)), num_permutations=10_000, seed=0, name="opaque")
    assert found.p_value == 1
    assert found.verdict == AT_CHANCE
    assert found.balanced_accuracy == pytest.approx(found.expected) == pytest.approx(1 / 3)
    assert "no evidence at level 0.0001 that opaque knows anything about the labels" in found.sentence


def test_unequal_classes_do_not_fool_it():
    """Accuracy 0.9 by naming the frequent class is no knowledge."""
    labels = np.r_[np.zeros(90, int), np.ones(10, int)]
    assert p_value(run(labels, np.zeros(100, int), num_classes=2)) == 1


def test_resolution_needs_enough_permutations():
    predictions = run(np.arange(30) % 3, np.arange(30) % 3)
    with pytest.raises(ConfigError, match=r"num_permutations must be >= 9999 for a p-value of 0\.0001 to be possible, got 9998"):
        permutation_test(predictions, num_permutations=9998, seed=0)
    found = permutation_test(predictions, num_permutations=9999, seed=0)
    assert found.p_value == pytest.approx(1e-4)
    assert found.verdict == BEATS_CHANCE


def test_a_perfect_network_is_found_where_one_class_has_serial_films():
    """100 patients with one film, 10 of the other class with 5 to 11: no two groups of one size differ, yet labels can be told."""
    sizes = np.r_[np.ones(100, int), 5 + np.arange(10) % 7]
    labels, groups = np.repeat(np.arange(110) >= 100, sizes).astype(int), np.repeat(np.arange(110), sizes)
    found = permutation_test(run(labels, labels, groups, num_classes=2), num_permutations=10_000, seed=0, name="opaque")
    assert found.verdict == BEATS_CHANCE
    assert found.p_value == pytest.approx(1 / 10_001) and found.best_p == pytest.approx(1 / 10_001)
    assert found.num_movable == 110  # one film of each patient


def test_where_a_perfect_network_could_not_be_found_the_test_cannot_tell():
    """Four patients: 6 ways to name two of them."""
    labels = np.array([0, 1, 0, 1])
    for predicted in (labels, 1 - labels):
        found = permutation_test(run(labels, predicted, num_classes=2), num_permutations=10_000, seed=0, name="opaque")
        assert found.verdict == CANNOT_TELL
        assert found.best_p == pytest.approx(1 / 6, abs=1e-3)
        assert "cannot tell at level 0.0001" in found.sentence and "p = 0.17; test more patients" in found.sentence
        assert "no evidence" not in found.sentence


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0, 0]])
def test_a_single_class_tells_nothing(labels):
    found = permutation_test(run(labels, [0, 1, 1]), num_permutations=10_000, seed=0)
    assert (found.verdict, found.best_p, found.p_value) == (CANNOT_TELL, 1, 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), min_size=2, max_size=6))
def test_the_best_p_is_that_of_a_perfect_network(patients):
    labels = np.repeat([label for label, _ in patients], [size for _, size in patients])
    groups = np.repeat(np.arange(len(patients)), [size for _, size in patients])
    found = permutation_test(run(labels, labels, groups), num_permutations=4000, seed=1, alpha=0.05)
    assert found.p_value == pytest.approx(found.best_p, abs=0.03)


def test_equal_groups_move_as_a_whole_and_unequal_ones_that_mix_classes_too():
    labels = np.repeat(np.arange(40) % 2, 3)
    assert permutation_test(run(labels, labels, np.repeat(np.arange(40), 3), 2), num_permutations=10_000, seed=0).num_movable == 120
    sizes = np.repeat([2, 3], 20)
    labels, groups = np.repeat(np.arange(40) % 2, sizes), np.repeat(np.arange(40), sizes)
    assert permutation_test(run(labels, labels, groups, 2), num_permutations=10_000, seed=0).num_movable == 100


def test_patients_with_many_films_do_not_hide_what_single_films_can_tell():
    """Six patients have most of the images, and 20 ways to be named; no two of the 94 others that have one size differ in class."""
    sizes = np.r_[np.full(6, 50), np.ones(47, int), np.arange(2, 49)]
    classes = np.r_[np.arange(6) % 2, np.repeat([0, 1], 47)]
    labels, groups = np.repeat(classes, sizes), np.repeat(np.arange(100), sizes)
    found = permutation_test(run(labels, labels, groups, 2), num_permutations=10_000, seed=0)
    assert (found.verdict, found.num_movable) == (BEATS_CHANCE, 100)


@pytest.mark.parametrize("num_permutations", [9_999, 10_000, 100_000])
def test_as_few_permutations_as_the_level_needs_tell_what_more_do(num_permutations):
    """24 patients of two classes: one permutation in 2.7 million names all, so a perfect network is found whatever their number."""
    labels = np.arange(24) % 2
    guess = np.random.default_rng(0).permutation(labels)
    assert permutation_test(run(labels, guess, num_classes=2), num_permutations=num_permutations, seed=0).verdict == AT_CHANCE


def test_serial_films_of_one_class_do_not_fool_it():
    """400 networks that answer the same for all films of a patient, where the ill have many: rejected no more often than the level says."""
    rng, rejected = np.random.default_rng(5), 0
    sizes = np.r_[np.ones(30, int), rng.integers(4, 9, 10)]
    labels, groups = np.repeat(np.arange(40) >= 30, sizes).astype(int), np.repeat(np.arange(40), sizes)
    for study in range(400):
        predicted = rng.integers(2, size=40)[groups]
        rejected += p_value(run(labels, predicted, groups, 2), num_permutations=99, seed=study) <= 0.05
    assert rejected / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_the_same_seed_gives_the_same_p_value():
    rng = np.random.default_rng(6)
    predictions = run(rng.integers(3, size=50), rng.integers(3, size=50))
    assert p_value(predictions, seed=1) == p_value(predictions, seed=1)
