"""What a network said about the test images: the one thing that every metric, comparison and figure is computed from.

Predictions name their images, so that two runs can be compared image by image, and so that the folds of a cross-validation can be
pooled without counting an image twice or losing one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ppdl.errors import DataError
from ppdl.records.atomic import replacing
from ppdl.records.reading import read_arrays

if TYPE_CHECKING:
    from ppdl.datasets.prepared.arrays import Prepared

FIELDS = ("labels", "logits", "groups", "image_ids", "class_names")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Hold the logits of some test images beside what the images are.

    Attributes:
        labels: (num_images,) integers in [0, num_classes): the true classes.
        logits: (num_images, num_classes) finite numbers, kept as float32. Probabilities are their softmax.
        groups: (num_images,) integers or text: images of one group (a patient, a cluster of near duplicates) are resampled together.
            Kept as text, since only equality matters.
        image_ids: (num_images,) integers or text, each once: which image a row is about. Kept as text.
        class_names: num_classes names in the order of the labels; at least two.

    Raises:
        DataError: An array has the wrong shape or type, a label is out of range, a logit is not finite, an image comes twice.
    """

    labels: np.ndarray
    logits: np.ndarray
    groups: np.ndarray
    image_ids: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        class_names = tuple(str(name) for name in self.class_names)
        if len(class_names) < 2 or len(set(class_names)) < len(class_names):
            raise DataError(f"class_names must be at least 2 different names, got {list(class_names)}")
        labels = _labels(self.labels, len(class_names))
        kept = {
            "labels": labels,
            "logits": _logits(self.logits, len(labels), len(class_names)),
            "groups": _names("groups", self.groups, len(labels)),
            "image_ids": _names("image_ids", self.image_ids, len(labels)),
        }
        ids, counts = np.unique(kept["image_ids"], return_counts=True)
        if counts.max() > 1:
            raise DataError(f"image_ids must name each image once, got {str(ids[counts.argmax()])!r} {counts.max()} times")
        for name, array in kept.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "class_names", class_names)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def predicted(self) -> np.ndarray:
        """Return (num_images,) the class with the largest logit; of equal ones the first."""
        return self.logits.argmax(axis=1)

    def save(self, path: Path) -> None:
        """Write everything to one .npz file without pickles. The same predictions give the same bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: np.asarray(getattr(self, name)) for name in FIELDS}
        with replacing(path) as unfinished, unfinished.open("wb") as file:  # a handle, since savez appends .npz to a name of another kind
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: The file is missing, damaged, of another kind, or its arrays do not fit each other.
        """
        again = "delete it, and cross-validate again"
        fields: dict[str, Any] = read_arrays(path, DataError, names=FIELDS, missing="cross-validate to the end", damaged=again)
        try:
            return cls(**fields)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def predictions_of(prepared: Prepared, rows: np.ndarray, logits: np.ndarray) -> Predictions:
    """Put logits (num_rows, num_classes) beside what is known of the images of `rows`."""
    index = prepared.index.iloc[rows]
    return Predictions(
        labels=index["label"].to_numpy(),
        logits=logits,
        groups=index["group"].to_numpy(),
        image_ids=index["path"].to_numpy(),
        class_names=prepared.class_names,
    )


def pool(folds: Sequence[Predictions], *, image_ids: Iterable[str | int]) -> Predictions:
    """Join the test predictions of the folds of one cross-validation.

    The logits come from as many networks as there are folds. Accuracy and F1 do not care; AUROC, calibration error and log loss
    also compare scores across networks, so a fold with another scale of logits costs them a little.

    Args:
        folds: One Predictions a fold.
        image_ids: Every image that must have been tested exactly once. The result has this order.

    Raises:
        DataError: There are no folds, an image or a group was tested in two folds (the folds overlap), an image was never tested,
            an image was tested that is not among `image_ids`, or the folds are of different classes.
    """
    if not folds:
        raise DataError("pooling needs the predictions of at least one fold, got none")
    if len({fold.class_names for fold in folds}) > 1:
        raise DataError(f"folds are of different classes: {sorted({fold.class_names for fold in folds})}")
    rows = pd.concat(
        [pd.DataFrame({"fold": number, "image": fold.image_ids, "group": fold.groups}) for number, fold in enumerate(folds)],
        ignore_index=True,
    )
    for column in ("image", "group"):
        num_folds = rows.groupby(column)["fold"].nunique()
        if (num_folds > 1).any():
            name = num_folds.index[num_folds > 1][0]
            where = sorted(int(number) for number in rows.loc[rows[column] == name, "fold"].unique())
            raise DataError(f"{column} {name!r} was tested in folds {where}: test folds must not overlap; pool folds of one split")
    wanted = pd.Index([str(name) for name in image_ids])
    _refuse_difference("were never tested: a fold is missing or of another split", wanted.difference(rows["image"]))
    _refuse_difference("were tested but are not in the index: folds are of another split", pd.Index(rows["image"]).difference(wanted))
    order = pd.Index(rows["image"]).get_indexer(wanted)
    joined = {name: np.concatenate([getattr(fold, name) for fold in folds])[order] for name in FIELDS[:-1]}
    return Predictions(**joined, class_names=folds[0].class_names)


def check_same_images(first: Predictions, second: Predictions, *, names: tuple[str, str]) -> None:
    """Refuse two predictions that are not of the same images in the same order with the same labels, groups and classes.

    Raises:
        DataError: They differ; the message says in what and where first.
    """
    between = f"runs {names[0]!r} and {names[1]!r}"
    if first.class_names != second.class_names:
        raise DataError(f"{between} are of different classes: {list(first.class_names)} and {list(second.class_names)}")
    if len(first) != len(second):
        raise DataError(f"{between} must be tested on the same images, got {len(first)} and {len(second)} of them")
    for field in ("image_ids", "labels", "groups"):
        ours, theirs = getattr(first, field), getattr(second, field)
        if not np.array_equal(ours, theirs):
            row = int(np.flatnonzero(ours != theirs)[0])
            raise DataError(
                f"{between} must be tested on the same images in the same order, but {field} differ at row {row}: "
                f"{ours[row]} and {theirs[row]}; train and evaluate both from one split"
            )


def _labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise DataError(f"labels must be a non-empty 1-D array of integers, got shape {labels.shape} of {labels.dtype}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"labels must be in [0, {num_classes}), got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)


def _logits(logits: np.ndarray, num_images: int, num_classes: int) -> np.ndarray:
    logits = np.asarray(logits)
    if logits.shape != (num_images, num_classes) or logits.dtype.kind not in "fiu":
        raise DataError(f"logits must be numbers of shape {(num_images, num_classes)}, got {logits.shape} of {logits.dtype}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which is refused below
        logits = logits.astype(np.float32)
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0])
        raise DataError(f"logits must be finite, got {logits[row].tolist()} at row {row}; the training diverged")
    return logits


def _names(field: str, values: np.ndarray, num_images: int) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (num_images,):
        raise DataError(f"{field} must be of shape {(num_images,)}, one for each label, got {values.shape}")
    if values.dtype.kind not in "iuUOT" or pd.isna(values).any():
        raise DataError(f"{field} must be integers or text without gaps, got {values.dtype}")
    return values.astype(str)


def _refuse_difference(what: str, names: pd.Index) -> None:
    if len(names):
        raise DataError(f"{len(names)} images {what}, the first is {names[0]!r}")
