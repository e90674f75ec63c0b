"""Look at the protected images as they are: what a thief sees who opens the files."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge
from PIL import Image
from scipy import ndimage

from ppdl.audit.examination import base
from ppdl.errors import ConfigError
from ppdl.records.typecheck import Count

_GREEN = 1  # of three channels the one nearest to luma; a cipher on colours mixes them, so a weighted sum would blur what one channel shows


@dataclass(frozen=True)
class AsIs(base.Attack):
    """Take the picture for the image: as it is, inverted, and both after a median filter.

    Catches what was not encrypted at all: min-max-scaled Paillier ciphertexts with r = 1, where c = 1 + m n is the pixel on another scale.

    Attributes:
        num_scored: images looked at.
        median_px: side of the median filter.
    """

    num_scored: Count
    median_px: Annotated[int, Ge(3)]

    name: ClassVar[str] = "as_is"
    needs: ClassVar[frozenset[str]] = frozenset({base.PICTURE})
    wants: ClassVar[frozenset[str]] = frozenset({base.PRIOR})
    knowledge: ClassVar[str] = "the protected images as pictures"
    source: ClassVar[str] = "none: what anybody does first"

    def __post_init__(self) -> None:
        if self.median_px % 2 == 0:
            raise ConfigError(f"median_px must be odd, got {self.median_px}")

    def run(self, target: base.Target, rng: np.random.Generator) -> base.Rebuilt:
        """Return the picture at the images' size, inverted if it is then more like the public images."""
        rows = base.scored_rows(target.num_images, self.num_scored)
        images = at_size(gray_rows(target.picture, rows), target.height, target.width)
        return base.Rebuilt(rows, 255 - images if is_negative(images, target.prior) else images)

    def score(self, guess: base.Rebuilt, truth: base.Truth) -> base.Finding:
        """Score all four looks and keep the one of the highest SSIM: two bits of help from the examiner, who has eyes as a thief has."""
        smooth = np.stack([ndimage.median_filter(image, self.median_px, mode="nearest") for image in guess.images])
        looks = {"same": guess.images, "inverted": 255 - guess.images, "median": smooth, "median inverted": 255 - smooth}
        scores = {look: base.score_rebuilt(base.Rebuilt(guess.rows, images), truth) for look, images in looks.items()}
        best = max(scores, key=lambda look: scores[look]["ssim"])
        return base.Finding({**scores[best], "look": best, "num_scored": len(guess.rows)}, base.Rebuilt(guess.rows, looks[best]))


def rows_with(scored: np.ndarray, num_images: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Return the scored rows and others drawn at random, `wanted` in all if there are as many, in order: (k,) int."""
    others = rng.permutation(np.setdiff1d(np.arange(num_images), scored))
    return np.sort(np.concatenate([scored, others[: max(0, wanted - len(scored))]]))


def gray_rows(picture: Any, rows: np.ndarray) -> np.ndarray:
    """Read rows of a target's picture as (k, height, width) uint8; of a colour picture the green channel."""
    images = np.asarray(picture[rows])
    return images[..., _GREEN] if images.ndim == 4 else images


def at_size(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring (k, any height, any width) uint8 to (k, height, width)."""
    if images.shape[1:] == (height, width):
        return images
    return np.stack([np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX)) for image in images])


def is_negative(images: np.ndarray, prior: np.ndarray | None) -> bool:
    """Tell whether images are brighter where public images (k, any height, any width) are darker, on the average over all."""
    if prior is None:
        return False
    return likeness(images.mean(0), at_size(prior, *images.shape[1:]).mean(0)) < 0


def likeness(image: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two images over positions, pixels (..., height, width) each; 0 where one of them is flat."""
    mine, theirs = image - image.mean(), other - other.mean()
    spread = np.sqrt((mine**2).sum() * (theirs**2).sum())
    return float((mine * theirs).sum() / spread) if spread > 0 else 0.0
