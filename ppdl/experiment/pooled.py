"""What a pooled head is made of: the public backbone, and what each hospital brings, in one process and on machines of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.datasets.prepared.arrays import Prepared, load_prepared
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import ConfigError, DataError
from ppdl.pooling.rehearsal import Films
from ppdl.pooling.sharing import FILMS_A_FEATURE
from ppdl.pooling.sums import integer_features

if TYPE_CHECKING:
    from ppdl.training.networks.features import PublicBackbone

FEATURE_BITS = 12
NUM_FILMS, MOST_FEATURES = 300, 128  # public ones that a backbone is made of; components that it keeps when nobody says how many


def write_backbone(backbone: PublicBackbone, num_films: int, path: Path) -> int:
    """Build the public backbone for so many films of all hospitals, write it, and return its number of features."""
    from ppdl.datasets.phantoms.public import PUBLIC_SEED, public_phantoms
    from ppdl.training.networks.features import save_backbone

    num_features = backbone.num_features or max(1, min(MOST_FEATURES, num_films // FILMS_A_FEATURE))
    films = public_phantoms(NUM_FILMS, backbone.input_px, backbone.input_px, seed=PUBLIC_SEED, film_px=backbone.input_px)
    save_backbone(backbone.build(films, num_features), path)
    return num_features


def backbone_facts(node: Mapping[str, Any], prepared_px: int, sha256: str) -> dict[str, Any]:
    """Return what a head says of a backbone, whose configuration is `node` and whose file has this SHA-256: no path."""
    facts = {key: value for key, value in node.items() if key != "_target_"}
    weights = Path(facts["weights"]).name  # of a file; other values have no folder
    return facts | {"weights": weights, "prepared_px": prepared_px, "sha256": sha256}


def pooled_rows(prepared: Prepared) -> np.ndarray:
    """Return the rows of the films that are pooled, those of training and validation: (num_films,) int64, ascending."""
    return np.sort(np.concatenate([prepared.rows(split) for split in ("train", "validation")]))


def films_of(prepared: Prepared, rows: Sequence[int] | np.ndarray, extract: Callable[..., np.ndarray], px: int, *, named: bool) -> Films:
    """Return what some prepared films bring to a run.

    Args:
        extract: see `load_extractor`. px: side of the images that it takes.
        named: whether the films are one hospital's own, so that its ledger must know them.
    """
    features = integer_features(extract(Reduced(prepared.images, px), np.array(rows)), FEATURE_BITS)
    digests = [hashlib.sha256(prepared.images[row].tobytes()).digest() for row in rows] if named else None
    return Films(features, prepared.index["label"].to_numpy()[rows], digests)


def own_films(folder: Path, backbone: Path, px: int, prepared_px: int, class_names: Sequence[str]) -> Films:
    """Return what the prepared films of a hospital on its own machine bring to a run.

    Args:
        folder: of the prepared images. backbone: its file.
        px, prepared_px: sides that the run's backbone takes, and that all hospitals prepare. class_names: of the run.

    Raises:
        ConfigError: the films were prepared at another size. DataError: a film is of a class that the run has not.
    """
    from ppdl.crypto.artifact.shards import hash_file
    from ppdl.training.networks.features import load_extractor

    prepared = load_prepared(folder)
    if prepared.images.shape[1] != prepared_px:
        raise ConfigError(f"{folder} holds images of {prepared.images.shape[1]} px, and the run is of {prepared_px}: prepare them so")
    if strange := [name for name in prepared.class_names if name not in class_names]:
        raise DataError(f"{folder} has the class {strange[0]!r}, and the run is of {', '.join(class_names)}: leave its films out")
    films = films_of(prepared, pooled_rows(prepared), load_extractor(backbone, sha256=hash_file(backbone)), px, named=True)
    numbers = np.array([class_names.index(name) for name in prepared.class_names])
    return Films(films.features, numbers[films.labels], films.digests)
