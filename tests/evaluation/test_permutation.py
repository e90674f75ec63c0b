"""The permutation test is exact, respects groups, and finds what there is to find."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from ppdl.errors import ConfigError, DataError
from ppdl.evaluation.permutation import permutation_test
from ppdl.evaluation.predictions import Predictions


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
    assert found.beats_chance
    assert found.num_movable == 400
    assert "opaque beats chance: something about the labels can be learnt from its input" in found.sentence
    assert "0 of 10,000 shuffles" in found.sentence


def test_a_network_that_always_says_the_same_is_at_chance():
    found = permutation_test(run(np.arange(90) % 3, np.zeros(90, int)), num_permutations=10_000, seed=0, name="opaque")
    assert found.p_value == 1
    assert not found.beats_chance
    assert found.balanced_accuracy == found.expected == pytest.approx(1 / 3)
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
    assert found.beats_chance
    with pytest.raises(ConfigError, match=r"alpha must be in \(0, 1\), got 1"):
        permutation_test(predictions, num_permutations=10_000, seed=0, alpha=1)


def test_what_cannot_be_permuted_is_refused():
    with pytest.raises(DataError, match="no two of the 2 groups have equally many images and different labels"):
        p_value(run([0, 1, 1], [0, 1, 1], groups=[0, 1, 1]))
    with pytest.raises(DataError, match="at least 2 classes, got only 'B'"):
        p_value(run([1, 1, 1], [0, 1, 1]))


def test_groups_without_a_partner_of_their_size_stay_as_they_are():
    labels, groups = np.array([0, 1, 0, 1, 2, 2, 2]), np.array([0, 1, 2, 3, 4, 4, 4])
    found = permutation_test(run(labels, labels, groups), num_permutations=2000, seed=0, alpha=0.05)
    assert found.num_movable == 4
    assert found.p_value == pytest.approx(1 / 6, abs=0.03)  # 4 labels, 2 of each class: 6 arrangements, one of them right


def test_the_same_seed_gives_the_same_p_value():
    rng = np.random.default_rng(6)
    predictions = run(rng.integers(3, size=50), rng.integers(3, size=50))
    assert p_value(predictions, seed=1) == p_value(predictions, seed=1)
