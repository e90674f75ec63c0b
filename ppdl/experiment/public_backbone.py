"""The public backbone of a pooled head, from public films alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ppdl.datasets.phantoms.public import PUBLIC_SEED, public_phantoms
from ppdl.pooling.sharing import FILMS_A_FEATURE

if TYPE_CHECKING:
    from ppdl.training.networks.features import PublicBackbone

NUM_FILMS, MOST_FEATURES = 300, 128


def write_backbone(backbone: PublicBackbone, num_films: int, path: Path) -> int:
    """Build the public backbone for so many films of all hospitals, write it, and return its number of features."""
    from ppdl.training.networks.features import save_backbone

    num_features = backbone.num_features or max(1, min(MOST_FEATURES, num_films // FILMS_A_FEATURE))
    films = public_phantoms(NUM_FILMS, backbone.input_px, backbone.input_px, seed=PUBLIC_SEED, film_px=backbone.input_px)
    save_backbone(backbone.build(films, num_features), path)
    return num_features
