"""Share images out to training, validation and test: stratified by class, groups whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le, Lt

from ppdl.errors import ConfigError, DataError
from ppdl.records.typecheck import Share, Whole

SPLITS = ("train", "validation", "test")
MAX_NEAR_BITS = 64  # of 256: unrelated pictures differ in about 128, unrelated chest X-rays of one source in as few as 48
_MAX_PARTS = 20  # a fraction is met to 1/20 or better; sharing out costs images x parts


@dataclass(frozen=True, kw_only=True)
class Split:
    """How images are shared out (`split` in the configuration).

    Attributes:
        test_fraction: Share of all images to test on; not used with folds, where it is 1 / num_folds.
        validation_fraction: Share of all images to stop and choose on.
        num_folds: None for one split by fractions; K for cross-validation, where each image is in the test of one of K folds.
        fold: Which of the folds 0 to num_folds - 1 is the test; None without folds.
        near_duplicate_bits: Two pictures whose 256-bit perceptual hashes differ in at most so many bits are near duplicates.
            Copies after recompression, resizing or a change of brightness stay within about 26; other patients begin at about 48
            (1,500 X-rays).
        seed: Seeds the order in which groups are shared out.

    Raises:
        ConfigError: A field breaks its rule.
    """

    test_fraction: Share
    validation_fraction: Share
    num_folds: Annotated[int, Ge(2)] | None
    fold: Whole | None
    near_duplicate_bits: Annotated[int, Ge(0), Le(MAX_NEAR_BITS)]
    seed: Annotated[int, Ge(0), Lt(2**32)]

    def __post_init__(self) -> None:
        if (self.fold is None) != (self.num_folds is None):
            raise ConfigError(f"split.fold is {self.fold!r} and split.num_folds is {self.num_folds!r}: set both, or neither")
        if self.num_folds and self.fold is not None and self.fold >= self.num_folds:
            raise ConfigError(f"split.fold must be an integer from 0 to {self.num_folds - 1} (split.num_folds - 1), got {self.fold!r}")
        if self.test_share + self.validation_fraction >= 1:
            name = "split.test_fraction" if self.num_folds is None else "1 / split.num_folds"
            raise ConfigError(
                f"{name} + split.validation_fraction must leave images to train on, "
                f"got {self.test_share:g} + {self.validation_fraction:g} >= 1"
            )

    @property
    def test_share(self) -> float:
        """Share of all images that is tested on."""
        return 1 / self.num_folds if self.num_folds else self.test_fraction


def assign_splits(
    labels: np.ndarray, groups: np.ndarray, split: Split, *, class_names: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Assign each image its fold and its split.

    The folds depend on the images, `num_folds` and `seed` alone, so that another `fold` tests another part of the same partition.

    Args:
        labels: (num_images,) class numbers.
        groups: (num_images,) group numbers; images of a group get the same split.
        class_names: Names for messages; None names the classes by their numbers.

    Returns:
        fold: (num_images,) int64, 0 to num_folds - 1, or -1 without folds.
        split: (num_images,) str, `train`, `validation` or `test`.

    Raises:
        DataError: A class has too few groups, or is missing from a split or a fold.

    Cost: about 7 s for 21,165 images in 5 folds.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    named = {int(label): class_names[label] if class_names else f"number {label}" for label in np.unique(labels)}
    _check_num_groups(labels, groups, split, named)
    fold = np.full(len(labels), -1, np.int64)
    if split.num_folds is None:
        is_test = _take(labels, groups, split.test_fraction, split.seed)
    else:
        fold = _partition(labels, groups, split.num_folds, split.seed)
        _check_every_class(labels, fold, dict.fromkeys(range(split.num_folds), "fold"), split, named)
        is_test = fold == split.fold
    names = np.full(len(labels), "train", dtype="<U10")
    names[is_test] = "test"
    rest = np.flatnonzero(~is_test)
    is_validation = _take(labels[rest], groups[rest], split.validation_fraction / (1 - split.test_share), split.seed)
    names[rest[is_validation]] = "validation"
    _check_every_class(labels, names, dict.fromkeys(SPLITS, "split"), split, named)
    return fold, names


def _partition(labels: np.ndarray, groups: np.ndarray, num_parts: int, seed: int) -> np.ndarray:
    """Cut the images into parts of like size and class shares: (num_images,) part numbers."""
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import, and most that read splits make none

    part = np.empty(len(labels), np.int64)
    try:
        for number, (_, rows) in enumerate(StratifiedGroupKFold(num_parts, shuffle=True, random_state=seed).split(labels, labels, groups)):
            part[rows] = number
    except ValueError as error:  # one huge group can leave the rest with less than scikit-learn cuts
        raise DataError(f"{len(labels)} images in {len(np.unique(groups))} groups cannot be cut into {num_parts} parts: {error}") from error
    return part


def _take(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose about a fraction of the images, whole groups, class shares kept: (num_images,) bool.

    scikit-learn cuts into equal parts, so the fraction becomes k of m parts, m at most `_MAX_PARTS` and the groups of the rarest class.
    """
    max_parts = max(2, min(_MAX_PARTS, *num_groups(labels, groups).values()))
    parts = Fraction(fraction).limit_denominator(max_parts)
    parts = min(max(parts, Fraction(1, max_parts)), Fraction(max_parts - 1, max_parts))
    return _partition(labels, groups, parts.denominator, seed) < parts.numerator


def num_groups(labels: np.ndarray, groups: np.ndarray) -> dict[int, int]:
    """Count the groups that hold each class."""
    return {int(label): len(np.unique(groups[labels == label])) for label in np.unique(labels)}


def _check_num_groups(labels: np.ndarray, groups: np.ndarray, split: Split, named: dict[int, str]) -> None:
    """Refuse classes that cannot be in every split.

    Raises:
        DataError: Fewer groups than 3, or than folds.
    """
    needed = max(3, split.num_folds or 0)
    counts = num_groups(labels, groups)
    if len(counts) < 2:
        raise DataError(f"a classifier needs at least 2 classes, got {len(counts)}")
    if min(counts.values()) < needed:
        why = "train, validation and test" if split.num_folds is None else f"split.num_folds={split.num_folds}"
        found = ", ".join(f"{named[label]}: {count}" for label, count in counts.items())
        raise DataError(
            f"every class needs at least {needed} groups (patients, or clusters of near duplicates) for {why}, got {found}; "
            f"add images, leave the class out with dataset.classes, or lower split.num_folds or split.near_duplicate_bits"
        )


def _check_every_class(labels: np.ndarray, part: np.ndarray, parts: dict[Any, str], split: Split, named: dict[int, str]) -> None:
    """Refuse a part of the images without some class; `parts` says what each expected value of `part` is.

    Raises:
        DataError: A class is missing from a part.
    """
    for value, what in parts.items():
        missing = [name for label, name in named.items() if not np.any(labels[part == value] == label)]
        if missing:
            raise DataError(
                f"class {', '.join(missing)} has no image in {what} {value}: its groups are too few, or one of them holds too many images; "
                f"try another split.seed (now {split.seed}) or larger fractions, or add images"
            )
