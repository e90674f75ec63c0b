"""Show what partial encryption leaves in the clear: each bit plane, and each band of 8 x 8 DCT coefficients, judged on its own."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ppdl.audit.attacks.as_is import at_size, gray_rows
from ppdl.audit.examination import base
from ppdl.audit.examination.blocks import DCT_PX, coefficients, joined, pixels
from ppdl.audit.examination.chance import FALSE_ALARM, p_value, smallest_rate
from ppdl.audit.examination.judge import octaves
from ppdl.errors import AttackDoesNotApply
from ppdl.records.typecheck import Count

_NUM_PLANES, _NUM_BANDS = 8, 2 * DCT_PX - 1
_NUM_TESTS = _NUM_PLANES + _NUM_BANDS
_BAND = np.add.outer(np.arange(DCT_PX), np.arange(DCT_PX))  # of a coefficient: the sum of its frequencies


@dataclass(frozen=True)
class Planes(base.Attack):
    """Test each plane and band for what neighbours have in common in one image and not in two, and draw those that have it.

    Two images swap their right neighbours. A bit of a plane is equal to its neighbour more often before than after, over all images, at
    more pairs of places than a coin says; the sizes of a coefficient in two neighbouring blocks rank two images alike more often than not.
    Images that are encrypted independently make both a fair coin, whatever the law of their values: the tests are exact sign tests. What a
    pad or a drawing gives to all images alike falls out.

    Attributes:
        num_scored: images that are drawn.

    Source: M. Podesser, H.-P. Schmidt and A. Uhl, Selective bitplane encryption, NORSIG 2002; A. Said, Measuring the strength of partial
    encryption schemes, ICIP 2005; W. Dixon and A. Mood, The statistical sign test, J. Am. Stat. Assoc. 41, 1946.

    Cost: under 1 s for 300 images of 96 px.
    """

    num_scored: Count

    name: ClassVar[str] = "planes"
    needs: ClassVar[frozenset[str]] = frozenset({base.PICTURE})
    knowledge: ClassVar[str] = "the protected images as pictures"
    source: ClassVar[str] = "M. Podesser, H.-P. Schmidt and A. Uhl, NORSIG 2002; A. Said, ICIP 2005"

    def run(self, target: base.Target, rng: np.random.Generator) -> base.Finding:
        """Return what was found, with the images made of the planes in the clear, or of the bands, whichever have more structure."""
        images = gray_rows(target.picture, np.arange(target.num_images))
        if len(images) < 2 or min(images.shape[1:]) < 2 * DCT_PX:
            raise AttackDoesNotApply(f"{len(images)} images of {images.shape[2]} x {images.shape[1]} px: two of 16 x 16 px are needed")
        of_planes, of_bands = ([_p_value(signs) for signs in found] for found in (_planes(images, rng), _bands(images, rng)))
        in_planes, in_bands = ([k for k, p in enumerate(ps) if p <= FALSE_ALARM] for ps in (of_planes, of_bands))
        metrics: dict[str, Any] = {"planes": in_planes, "bands": in_bands, "partial": True, "leak": None}
        metrics["p_value"] = min(*of_planes, *of_bands)
        seen_from = smallest_rate(images.shape[1] * (images.shape[2] // 2), 0.5, _NUM_TESTS)
        metrics["unseen"] = f"a bit plane whose neighbours are alike at {seen_from:.0%} of the places (chance 50%)"
        said = [f"bit planes {_listed(in_planes)} (7 is the highest)"] if in_planes else []
        said += [f"sizes of DCT bands {_listed(in_bands)} of 0 to 14"] if in_bands else []
        if not said:
            return base.Finding(metrics)
        metrics["leak"] = f"neighbours go together in {' and in '.join(said)}"
        rows = base.scored_rows(target.num_images, self.num_scored)
        shown = gray_rows(target.picture, rows)
        drawn = [_of_planes(shown, in_planes)] if in_planes else []
        drawn += [_of_bands(shown, in_bands)] if in_bands else []
        best = max(drawn, key=lambda each: octaves(each).mean())
        return base.Finding(metrics, base.Rebuilt(rows, at_size(best, target.height, target.width)))

    def score(self, guess: base.Finding, truth: base.Truth) -> base.Finding:
        return base.with_likeness(guess, truth)


def _planes(images: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
    pairs = rng.permutation(len(images))[: len(images) // 2 * 2]
    return [_plane_signs(images[pairs] >> plane & 1) for plane in range(_NUM_PLANES)]


def _plane_signs(bits: np.ndarray) -> tuple[int, int]:
    """Return at how many pairs of places neighbours are equal more often in one image than in two, and less often.

    Args:
        bits: (num_images, height, width), an even number of images.
    """
    one, other = (bits[:, :, k : bits.shape[2] // 2 * 2 : 2] for k in (0, 1))
    swapped = other.reshape(-1, 2, *other.shape[1:])[:, ::-1].reshape(other.shape)
    gain = (one == other).sum(0) - (one == swapped).sum(0)
    return int((gain > 0).sum()), int((gain < 0).sum())


def _bands(images: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
    pairs = rng.permutation(len(images))[: len(images) // 2 * 2]
    sizes = np.abs(coefficients(images[pairs].astype(np.float32)))
    return [_band_signs(sizes[..., band == _BAND]) for band in range(_NUM_BANDS)]


def _band_signs(sizes: np.ndarray) -> tuple[int, int]:
    """Return how often neighbouring blocks rank two images alike by a coefficient's size, and how often not.

    Args:
        sizes: (num_images, rows, columns, num_coefficients), an even number of images.
    """
    more = sizes[0::2] - sizes[1::2]
    alike = more[:, :, 0 : more.shape[2] // 2 * 2 : 2] * more[:, :, 1::2][:, :, : more.shape[2] // 2]
    of_blocks = np.sign(alike).sum(-1)  # coefficients of one block are not independent, so a pair of blocks counts once
    return int((of_blocks > 0).sum()), int((of_blocks < 0).sum())


def _p_value(signs: tuple[int, int]) -> float:
    return min(1.0, _NUM_TESTS * p_value(signs[0], 1, signs[1], 1))


def _of_planes(images: np.ndarray, planes: list[int]) -> np.ndarray:
    """Return images of some bit planes, the others at the mean of both values; without the highest, stretched so that eyes see them."""
    mask = sum(1 << plane for plane in planes)
    if _NUM_PLANES - 1 in planes:
        return (images & mask) + (255 - mask) // 2
    return np.rint((images & mask) * (255 / mask)).astype(np.uint8)


def _of_bands(images: np.ndarray, bands: list[int]) -> np.ndarray:
    """Return images of some DCT bands, the others zero, or middle gray where it is the mean."""
    kept = coefficients(images.astype(np.float32)) * np.isin(_BAND, bands)
    shown = pixels(kept) + (0 if 0 in bands else 128)
    return joined(np.clip(np.rint(shown), 0, 255).astype(np.uint8), images)


def _listed(names: list[int]) -> str:
    return ", ".join(map(str, names))
