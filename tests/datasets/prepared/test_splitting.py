"""Splits: whole groups, every class everywhere, the shares asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdl.config.components import construct
from ppdl.datasets.prepared import splitting
from ppdl.datasets.prepared.splitting import SPLITS, Split, assign_splits
from ppdl.errors import ConfigError, DataError

DEFAULTS = dict(test_fraction=0.2, validation_fraction=0.1, num_folds=None, fold=None, near_duplicate_bits=26, seed=1)  # noqa: C408


def split_of(**changes) -> Split:
    return Split(**DEFAULTS | changes)


def cases(num_images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of three unequal classes, and groups of one to four images of which some hold several classes."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, num_images, p=[0.5, 0.3, 0.2])
    groups = np.repeat(np.arange(num_images), rng.integers(1, 5, num_images))[:num_images]
    return labels, rng.permutation(num_images)[groups]


@settings(max_examples=10, deadline=None)
@given(st.integers(300, 500), st.integers(0, 1000), st.sampled_from([0.1, 0.15, 0.2, 0.3]), st.sampled_from([0.1, 0.2, 0.25]))
def test_fractions_keep_groups_classes_and_shares(num_images, seed, test_fraction, validation_fraction):
    labels, groups = cases(num_images, seed)
    fold, names = assign_splits(labels, groups, split_of(test_fraction=test_fraction, validation_fraction=validation_fraction, seed=seed))
    assert (fold == -1).all()
    assert set(names) == set(SPLITS)
    assert all(len(set(names[groups == group])) == 1 for group in np.unique(groups))
    for name, share in (("test", test_fraction), ("validation", validation_fraction)):
        assert abs(np.mean(names == name) - share) < 0.03
        for label in range(3):
            assert abs(np.mean(labels[names == name] == label) - np.mean(labels == label)) < 0.1


def test_folds_partition_the_images_alike_for_each_fold():
    labels, groups = cases(300, 0)
    results = [assign_splits(labels, groups, split_of(num_folds=5, fold=fold)) for fold in range(5)]
    for number, (fold, names) in enumerate(results):
        assert np.array_equal(fold, results[0][0])
        assert np.array_equal(names == "test", fold == number)
        assert all(len(set(names[groups == group])) == 1 for group in np.unique(groups))
        assert set(labels[names == "validation"]) == set(labels[names == "train"]) == {0, 1, 2}
        assert abs(np.mean(names == "validation") - 0.1) < 0.03
    assert sorted(np.bincount(results[0][0])) == pytest.approx([60] * 5, abs=6)


def test_the_seed_alone_decides():
    labels, groups = cases(200, 0)
    first, same, other = (assign_splits(labels, groups, split_of(seed=seed))[1] for seed in (3, 3, 4))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_three_images_a_class_are_enough():
    labels = np.repeat([0, 1], 3)
    _, names = assign_splits(labels, np.arange(6), split_of())
    assert sorted(names[labels == 0]) == sorted(names[labels == 1]) == sorted(SPLITS)


def test_too_few_groups_are_counted_by_class():
    labels, groups = np.repeat([0, 1], 6), np.array([0, 1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 7])
    with pytest.raises(DataError, match=r"at least 3 groups .* for train, validation and test, got Normal: 6, COVID: 2; "):
        assign_splits(labels, groups, split_of(), class_names=["Normal", "COVID"])
    with pytest.raises(
        DataError, match=r"at least 7 groups .* for split.num_folds=7, got class 0: 6, class 1: 2; ".replace("class ", "number ")
    ):
        assign_splits(labels, groups, split_of(num_folds=7, fold=0))


def test_a_class_that_is_missing_from_a_split_is_named(monkeypatch):
    labels = np.repeat([0, 1], 6)
    monkeypatch.setattr(splitting, "_take", lambda labels, groups, fraction, seed: labels == 0)
    with pytest.raises(DataError, match=r"class Normal has no image in split train: .*; try another split.seed \(now 1\)"):
        assign_splits(labels, np.arange(12), split_of(), class_names=["Normal", "COVID"])


def test_a_class_that_is_missing_from_a_fold_is_named(monkeypatch):
    labels = np.repeat([0, 1], 6)
    monkeypatch.setattr(splitting, "_partition", lambda labels, groups, num_parts, seed: np.arange(len(labels)) // 4)
    with pytest.raises(DataError, match="class COVID has no image in fold 0: "):  # whichever fold is tested
        assign_splits(labels, np.arange(12), split_of(num_folds=3, fold=1), class_names=["Normal", "COVID"])


def test_what_cannot_be_cut_is_counted():
    labels, groups = np.array([0, 1] * 3), np.array([0, 0, 1, 1, 2, 2])  # three groups, each of both classes
    with pytest.raises(DataError, match="2 images in 1 groups cannot be cut into 2 parts"):
        assign_splits(labels, groups, split_of(test_fraction=0.6))


def test_one_class_is_refused():
    with pytest.raises(DataError, match="a classifier needs at least 2 classes, got 1"):
        assign_splits(np.zeros(9, int), np.arange(9), split_of())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_fraction": 0}, "split.test_fraction: must be > 0, got 0"),
        ({"test_fraction": float("nan")}, "split.test_fraction: must be a finite number, got nan"),
        ({"validation_fraction": -1.0}, "split.validation_fraction: must be > 0, got -1.0"),
        ({"test_fraction": "half"}, "split.test_fraction: must be a number, got 'half'"),
        (
            {"test_fraction": 0.6, "validation_fraction": 0.4},
            r"split.test_fraction \+ split.validation_fraction must leave images to train on, got 0.6",
        ),
        ({"num_folds": 2, "fold": 0, "validation_fraction": 0.5}, r"1 / split.num_folds \+ split.validation_fraction must leave images"),
        ({"num_folds": 0, "fold": 0}, "split.num_folds: must be >= 2, got 0"),
        ({"num_folds": 2.5, "fold": 0}, "split.num_folds: must be an integer, got 2.5"),
        ({"num_folds": 5}, "split.fold is None and split.num_folds is 5: set both, or neither"),
        ({"num_folds": 5, "fold": -1}, "split.fold: must be >= 0, got -1"),
        ({"num_folds": 5, "fold": 5}, r"split.fold must be an integer from 0 to 4 \(split.num_folds - 1\), got 5"),
        ({"fold": 2}, "split.fold is 2 and split.num_folds is None: set both, or neither"),
        ({"near_duplicate_bits": -1}, "split.near_duplicate_bits: must be >= 0, got -1"),
        ({"near_duplicate_bits": 65}, "split.near_duplicate_bits: must be <= 64, got 65"),
        ({"seed": None}, "split.seed: must be an integer, got None"),
    ],
)
def test_a_broken_rule_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        construct(Split, DEFAULTS | changes, "split")
