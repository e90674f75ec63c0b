"""Look up a patient: who owns an earlier X-ray of somebody, does he find that person in the protected set?"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from scipy import linalg, ndimage

from ppdl.audit.examination.base import CIPHERTEXTS, PICTURE, PRIOR, QUERIES, SYMBOLS, VIEW, Attack, Finding, Target, Truth
from ppdl.audit.examination.verdict import top1_interval
from ppdl.errors import AttackDoesNotApply
from ppdl.protections.schemes.seriation import spectral_table

_BLOCK = 256  # images that are read at a time
_RIDGE = 1e-3  # of the mean variance between retakes, added to it
_MOST_COMPONENTS = 300
_PX = 32  # side that images are compared at: what tells patients apart is large
_DIMENSIONS = 60  # of the space that they are compared in, where there are public images enough
_RETAKES = 6  # poses of each public image
_SHIFT, _TURN, _SCALE, _NOISE = (
    0.016,
    0.02,
    0.02,
    4.0,
)  # how far poses differ, as standard deviations: of the side, radians, relative, gray levels
_SERIATED = 1000  # images at most whose neighbouring symbols are counted


@dataclass(frozen=True)
class Linkage(Attack):
    """Rank the protected images by how much they look like each query.

    Images of symbols are shown by their symbols' ranks in a seriation, others by their ciphertexts' bytes. All are brought to 32 px
    and equalised, so that neither exposure nor an unknown gray scale matters. What tells patients from retakes of one patient is learned
    from the public images alone: each is posed anew several times (shift, turn, scale, noise), and a linear discriminant analysis keeps
    the directions in which patients differ most, measured by what differs between poses. Similarity is the cosine in that space.

    Source: P. Belhumeur, J. Hespanha, D. Kriegman, "Eigenfaces vs. Fisherfaces", IEEE TPAMI 19(7), 1997; that radiographs identify
    patients: K. Packhaeuser et al., "Deep learning-based patient re-identification is able to exploit the biometric nature of medical
    chest X-ray data", Scientific Reports 12, 2022.
    """

    name: ClassVar[str] = "linkage"
    surface: ClassVar[str] = "artifact"
    needs: ClassVar[frozenset[str]] = frozenset({QUERIES, PRIOR})
    wants: ClassVar[frozenset[str]] = frozenset({SYMBOLS, CIPHERTEXTS, PICTURE})
    knowledge: ClassVar[str] = "the ciphertexts, an earlier X-ray of the person who is looked up, and public images"
    source: ClassVar[str] = "Belhumeur, Hespanha and Kriegman 1997; Packhaeuser et al. 2022"

    def run(self, target: Target, rng: np.random.Generator) -> np.ndarray:
        """Return the rows of the set for each query, most similar first: (num_queries, num_images) int.

        Cost: some seconds for 1,000 images, most of it reading, and ranking num_queries * num_images pairs.
        """
        centre, directions = self._discriminants(target.prior, rng)
        gallery = _unit((self._gallery(target, rng) - centre) @ directions)
        queries = _unit((_equalised(_small(target.queries, _PX)) - centre) @ directions)
        return np.argsort(-(queries @ gallery.T), axis=1, kind="stable")

    def on_view(self) -> Attack | None:
        return LinkageView()

    def _gallery(self, target: Target, rng: np.random.Generator) -> np.ndarray:
        """Return what an attacker sees of each protected image, equalised, (num_images, 32 * 32) float32."""
        if target.symbols is not None:
            symbols = target.symbols
            rows = np.sort(rng.permutation(target.num_images)[:_SERIATED])
            table = spectral_table(symbols.array, rows, symbols.num_symbols)[:, 0]
            return self._read(symbols.array, lambda block: table[block])
        if target.ciphertexts is not None:
            return self._read(target.ciphertexts, _as_squares)
        if target.picture is not None:
            return self._read(target.picture, lambda block: block if block.ndim == 3 else block.mean(3))
        raise AttackDoesNotApply("nothing of the protected images can be looked at")

    def _read(self, array: Any, show: Any) -> np.ndarray:
        starts = range(0, array.shape[0], _BLOCK)
        return np.concatenate([_equalised(_small(show(np.asarray(array[i : i + _BLOCK])), _PX)) for i in starts])

    def _discriminants(self, prior: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Learn the mean (32 * 32,) and the directions (32 * 32, 60) that patients differ in, from public images."""
        small = _small(prior, _PX)
        poses = np.stack([self._retake(image, rng) for image in small for _ in range(_RETAKES)])
        features = _equalised(poses)
        centre = features.mean(0)
        features = (features - centre).astype(np.float64)
        num_components = min(_MOST_COMPONENTS, len(small), features.shape[1])
        _, vectors = linalg.eigh(features.T @ features, subset_by_index=(features.shape[1] - num_components, features.shape[1] - 1))
        projected = (features @ vectors).reshape(len(small), _RETAKES, -1)
        means = projected.mean(1)
        within = (projected - means[:, None]).reshape(-1, num_components)
        spread = within.T @ within / len(within)
        spread += _RIDGE * max(np.trace(spread) / num_components, np.finfo(float).tiny) * np.eye(num_components)
        kept = min(_DIMENSIONS, num_components)
        _, best = linalg.eigh(means.T @ means / len(means), spread, subset_by_index=(num_components - kept, num_components - 1))
        return centre, (vectors @ best).astype(np.float32)

    def _retake(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Pose an image (px, px) anew."""
        px, angle, size = len(image), rng.normal(0, _TURN), 1 + rng.normal(0, _SCALE)
        turn = size * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        middle = np.full(2, (px - 1) / 2)
        offset = middle - turn @ middle + rng.normal(0, _SHIFT * px, 2)
        posed = ndimage.affine_transform(image, turn, offset=offset, order=1, mode="nearest")
        return posed + rng.normal(0, _NOISE, posed.shape).astype(np.float32)

    def score(self, guess: np.ndarray, truth: Truth) -> Finding:
        """Return the share of queries whose patient is among the first 1 and 5, with chance, and a Wilson interval for the first.

        A query's own row is not searched. Queries of a patient without another image in the set do not count.

        Raises:
            AttackDoesNotApply: no query counts.
        """
        places, chances = [], []
        for ranking, group, row in zip(guess, truth.query_groups, truth.query_rows, strict=True):
            same = truth.groups[ranking[ranking != row]] == group
            if same.any():
                places.append(int(same.argmax()))
                chances.append([chance_of_a_hit(len(same), int(same.sum()), first) for first in (1, 5)])
        if not places:
            raise AttackDoesNotApply("no patient of an earlier X-ray has another image in the set")
        num, first = len(places), np.array(places)
        low, high = top1_interval(int((first < 1).sum()), num)
        metrics = {
            "top1": float((first < 1).mean()),
            "top5": float((first < 5).mean()),
            "top1_low": low,
            "top1_high": high,
            "chance_top1": float(np.mean(chances, axis=0)[0]),
            "chance_top5": float(np.mean(chances, axis=0)[1]),
            "num_queries": num,
        }
        return Finding(metrics)


@dataclass(frozen=True)
class LinkageView(Linkage):
    """Look patients up in what the key holder revealed: its first channel."""

    name: ClassVar[str] = "linkage_view"
    surface: ClassVar[str] = "view"
    needs: ClassVar[frozenset[str]] = frozenset({QUERIES, PRIOR, VIEW})
    wants: ClassVar[frozenset[str]] = frozenset()
    knowledge: ClassVar[str] = "the revealed view, an earlier X-ray of the person who is looked up, and public images"

    def on_view(self) -> Attack | None:
        return None

    def _gallery(self, target: Target, rng: np.random.Generator) -> np.ndarray:
        return self._read(target.view.array, lambda block: block[..., 0])


def chance_of_a_hit(num: int, same: int, first: int) -> float:
    """Return the probability that a random ranking of `num` rows has one of `same` among the `first`: hypergeometric, exact."""
    first = min(first, num)
    return 1 - math.comb(num - same, first) / math.comb(num, first)


def _small(images: np.ndarray, px: int) -> np.ndarray:
    """Bring (n, height, width) of any numbers to (n, px, px) float32 by area means."""
    n, height, width = images.shape
    images = images.astype(np.float32)
    if height % px == 0 and width % px == 0:
        return images.reshape(n, px, height // px, px, width // px).mean((2, 4))
    return np.stack([np.asarray(Image.fromarray(image).resize((px, px), Image.Resampling.BOX)) for image in images])


def _equalised(images: np.ndarray) -> np.ndarray:
    """Replace values by their ranks within an image, from -1 to 1, and lay each image out as a row."""
    flat = images.reshape(len(images), -1)
    ranks = flat.argsort(1, kind="stable").argsort(1, kind="stable")
    return (ranks * (2 / (flat.shape[1] - 1)) - 1).astype(np.float32)


def _as_squares(block: np.ndarray) -> np.ndarray:
    """Lay the bytes of each image's ciphertexts out as a square, as many as fill one."""
    flat = block.reshape(len(block), -1)
    side = math.isqrt(flat.shape[1])
    return flat[:, : side * side].reshape(-1, side, side)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
