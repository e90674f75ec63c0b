"""From features back to pictures: a linear map, learned on public images.

Whoever has a film's features has more than its label. How much more, this measures beside the mean of the public images, the blind guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ppdl.audit.examination.base import Rebuilt, Truth, score_rebuilt
from ppdl.errors import DataError

_STRENGTHS = tuple(10.0 ** np.arange(0, 6))  # of the ridge, of standardised features; the data choose


@dataclass(frozen=True, eq=False)
class Pictures:
    """Hold public images with their features, and the members' films that are scored.

    Attributes:
        public_features: (num_public, num_features). public_images: (num_public, height, width) uint8.
        rows: of the members, in the order of the hospitals, int (num_scored,). images: of these, (num_scored, height, width) uint8.

    Raises: DataError when numbers or sizes differ.
    """

    public_features: np.ndarray
    public_images: np.ndarray
    rows: np.ndarray
    images: np.ndarray

    def __post_init__(self) -> None:
        sizes = len(self.public_features), len(self.rows)
        if (len(self.public_images), len(self.images)) != sizes or self.public_images.shape[1:] != self.images.shape[1:]:
            raise DataError(
                f"public and scored images must be of one size, one for each of {sizes} features and rows, "
                f"got {self.public_images.shape} and {self.images.shape}"
            )

    def blind(self) -> dict[str, float]:
        """Score the mean of the public images, which is reached without any of the films."""
        mean = np.rint(self.public_images.mean(axis=0)).astype(np.uint8)
        return self.score(np.repeat(mean[None], len(self.rows), axis=0))

    def score(self, rebuilt: np.ndarray) -> dict[str, float]:
        """Return the means of ssim and psnr of guesses (num_scored, height, width) uint8."""
        return score_rebuilt(Rebuilt(np.arange(len(self.rows)), rebuilt), Truth(self.images))

    def rebuild(self) -> Callable[[np.ndarray], np.ndarray]:
        """Fit the map, its strength by generalised cross-validation on the public images.

        Returns:
            A function from features (n, num_features) to images (n, height, width) uint8.
        """
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        height, width = self.images.shape[1:]
        pixels = self.public_images.reshape(len(self.public_images), -1).astype(np.float64)
        model = make_pipeline(StandardScaler(), RidgeCV(_STRENGTHS)).fit(self.public_features.astype(np.float64), pixels)

        def images(features: np.ndarray) -> np.ndarray:
            drawn = model.predict(features.astype(np.float64)).reshape(-1, height, width)
            return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)

        return images
