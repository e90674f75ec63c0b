"""What each hospital of a pooled head brings: in the pipeline's one process, and on a machine of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ppdl.datasets.prepared.arrays import Prepared, load_prepared
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import ConfigError, DataError
from ppdl.pooling.subjects.head import Films
from ppdl.pooling.sums import integer_features

FEATURE_BITS = 12


def films_of(prepared: Prepared, rows: Sequence[int] | np.ndarray, extract: Callable[..., np.ndarray], px: int, *, named: bool) -> Films:
    """Return what some prepared films bring to a run.

    Args:
        extract: see `load_extractor`. px: side of the images that it takes.
        named: whether the films are one hospital's own, so that its ledger must know them.
    """
    features = integer_features(extract(Reduced(prepared.images, px), np.array(rows)), FEATURE_BITS)
    digests = [hashlib.sha256(prepared.images[row].tobytes()).digest() for row in rows] if named else None
    labels, groups = (prepared.index[column].to_numpy()[rows] for column in ("label", "group"))
    return Films(features, labels, digests, groups)


def own_films(folder: Path, backbone: Path, px: int, prepared_px: int, class_names: Sequence[str]) -> Films:
    """Return what the prepared films of a hospital on its own machine bring to a run.

    Args:
        folder: of the prepared images. backbone: its file.
        px, prepared_px: sides that the run's backbone takes, and that all hospitals prepare. class_names: of the run.

    Raises: see `read_films`.
    """
    from ppdl.crypto.artifact.shards import hash_file
    from ppdl.training.networks.features import load_extractor

    prepared, labels = read_films(folder, prepared_px, class_names)
    rows = prepared.rows("train", "validation")
    films = films_of(prepared, rows, load_extractor(backbone, sha256=hash_file(backbone)), px, named=True)
    return replace(films, labels=labels[rows])


def read_films(folder: Path, prepared_px: int, class_names: Sequence[str]) -> tuple[Prepared, np.ndarray]:
    """Return a hospital's prepared films, and their labels as numbers in a run's classes, (num_films,).

    Raises:
        ConfigError: the films were prepared at another size. DataError: a film is of a class that the run has not.
    """
    prepared = load_prepared(folder)
    if prepared.images.shape[1] != prepared_px:
        raise ConfigError(f"{folder} holds images of {prepared.images.shape[1]} px, and the run is of {prepared_px}: prepare them so")
    if strange := [name for name in prepared.class_names if name not in class_names]:
        raise DataError(f"{folder} has the class {strange[0]!r}, and the run is of {', '.join(class_names)}: leave its films out")
    numbers = np.array([list(class_names).index(name) for name in prepared.class_names])
    return prepared, numbers[prepared.index["label"].to_numpy()]
