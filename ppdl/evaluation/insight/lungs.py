"""Does a network look at the lungs? Images without their lungs, images of the lungs alone, and where Grad-CAM's mass lies.

The shortcut test: a trained network classifies test images whose lungs are blanked out. Where it is still right more often than
chance, something outside the lungs gives the class away. It never saw such images, so a low accuracy does not prove the contrary.

What is blanked is what the network is fed, pixel by pixel, so that every view that is a picture is tested alike and without a key. The
lungs are grown by 2 % of the side, for masks are not exact and films are blurred; what is blanked gets one value, the mean of training
images. The outline of the lungs stays visible in both.

Source: Maguolo and Nanni 2021 (arXiv 2004.12823), who trained networks on images without lungs.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ppdl.datasets.prepared.reduced import Reduced
from ppdl.evaluation.predictions.intervals import Support, group_codes, group_sums, jackknife, value_interval
from ppdl.protections.view import View

GROWN = 0.02  # of the side
LEAST_LIKENESS = 0.5
PARTS = ("only_lungs", "without_lungs")
_SAMPLE = 256  # training images behind the value of what is blanked
_CHUNK = 256


def lungs(masks: np.ndarray, px: int, rows: slice | np.ndarray) -> np.ndarray:
    """Return where the grown lungs are in some rows, (len(rows), px, px) bool.

    Args:
        masks: (num_images, height, height) uint8, of the prepared images.
        px: Side of what the network is fed; divides height.
    """
    return ndimage.binary_dilation(Reduced(masks, px)[rows] > 0, np.ones((1, 3, 3), bool), iterations=max(1, round(GROWN * px)))


def blanked(view: View, masks: np.ndarray, train_rows: np.ndarray, part: str) -> View:
    """Return the view with one part of every image blanked, as rows are read.

    Args:
        view: Its array is (num_images, height, width[, channels]) integers.
        masks: (num_images, height, height) uint8, of the prepared images.
        part: "only_lungs" keeps the lungs, "without_lungs" all else.
    """
    fill = fill_of(view, train_rows)

    def read(rows: slice | np.ndarray) -> np.ndarray:
        images, inside = np.array(view.array[rows]), lungs(masks, view.array.shape[1], rows)
        images[inside if part == "without_lungs" else ~inside] = fill
        return images

    return view.reading(read)


def fill_of(view: View, train_rows: np.ndarray) -> np.ndarray:
    """Return what looks like the mean of training images: an integer for each channel, or the nearest symbol."""
    rows = train_rows[np.linspace(0, len(train_rows) - 1, min(_SAMPLE, len(train_rows))).astype(int)]
    images = np.asarray(view.array[rows])
    if view.table is None:
        return np.rint(images.mean(axis=(0, 1, 2))).astype(view.array.dtype)
    symbols, counts = np.unique(images, return_counts=True)
    looks = view.table[symbols]
    mean = np.average(looks, axis=0, weights=counts)
    return symbols[np.abs(looks - mean).sum(axis=1).argmin()].astype(view.array.dtype)


def is_picture(view: View, images: np.ndarray, rows: np.ndarray) -> bool:
    """Tell whether what the network is fed looks like the images: whether a channel's correlation with them is 0.5 on average.

    Args:
        images: (num_images, height, height) uint8, of which `rows` are read.
    """
    height, width = view.array.shape[1:3]
    if height != width or images.shape[1] % height:
        return False
    found = np.asarray(view.array[rows])
    looks = view.table[found] if view.table is not None else found.reshape(*found.shape[:3], -1)
    originals = Reduced(images, height)[rows]
    likeness = [
        max(abs(_correlation(look[..., c], original)) for c in range(look.shape[-1]))
        for look, original in zip(looks, originals, strict=True)
    ]
    return float(np.mean(likeness)) >= LEAST_LIKENESS


def masked_rows(masks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return those of `rows` whose image has a mask."""
    has = [masks[rows[start : start + _CHUNK]].any(axis=(1, 2)) for start in range(0, len(rows), _CHUNK)]
    return rows[np.concatenate(has)] if has else rows


def mass_inside(maps: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each map's sum that lies in the lungs, and the share of the area that they have, which is what chance gives.

    Args:
        maps: (n, px, px), not negative.
        masks: (n, height, height) uint8; px divides height.

    Returns:
        Two (n,) float64; the first is NaN for a map of zeros.
    """
    inside = Reduced(masks, maps.shape[1])[:] / 255
    with np.errstate(invalid="ignore"):
        shares = (maps * inside).sum(axis=(1, 2), dtype=np.float64) / maps.sum(axis=(1, 2), dtype=np.float64)
    return shares, inside.mean(axis=(1, 2))


def mean_with_ends(name: str, values: np.ndarray, groups: np.ndarray, least: float = 0.0) -> dict[str, float | None]:
    """Return the mean of values from `least` to 1 of each image under `name`, with the ends of its 95 % interval (`intervals`)."""
    codes, num_groups = group_codes(groups)
    sums, sizes = group_sums(np.stack([values, np.ones(len(values))], axis=1), codes, num_groups).T
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    low, high = value_interval(float(values.mean()), jackknife(without), Support.of(sizes), least=least, largest=1.0)
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    a, b = first - first.mean(), second - second.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else 0.0
