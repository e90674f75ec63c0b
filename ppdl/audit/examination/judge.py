"""Tell whether an attack rebuilt images when nobody has the originals: by the structure of what it returns.

Structure of an image: the correlation of neighbouring pixels, and of neighbouring pixels of its area means over 2 x 2, 4 x 4, ... px,
averaged over these octaves. Images have it at all of them, noise at none, smoothed noise at the first few only.

An attack may make anything look like an image: a filter smooths, and what chooses between two values by public images draws those. So what
all images have in common is taken off first, where there are `ENOUGH` images, since a drawing from public images is alike in all of them
and a patient is not. And the same attack is run on a null: the same pictures, with the pixels of each image moved to random places. Its
structure is what the attack adds by itself. Rules:

1. An attack *finds structure* when it exceeds that on the null by `MARGIN`, and by more than chance does once in
   `ppdl.audit.examination.chance.FALSE_ALARM`, divided by the number of attacks that are compared. Where pixels stand in random order the
   correlation of neighbours is normal, with the variance of as many independent pairs (A. Cliff and J. Ord, Spatial Processes, 1981,
   section 2); the scatter over images counts where it is larger.
2. It *has the structure of images* when, moreover, structure is at least `REBUILT` at each octave, it is no less at the finest than at the
   next, as it is under noise, and steps between pixels have no period, as those of scrambled blocks or coarse ones have. Otherwise, and
   where an attack says that it returns a part (`partial`), images *show through*. Neither says that it is the right image: without
   originals nobody can.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from ppdl.audit.examination.base import Target
from ppdl.audit.examination.blocks import block_size
from ppdl.audit.examination.chance import FALSE_ALARM
from ppdl.audit.examination.verdict import BROKEN, LEAKY, NOT_CONFIDENTIAL, POWER, UNBROKEN

MARGIN, REBUILT = 0.1, 0.35
_NOISE = 0.02  # by so much the finest octave may have less structure than the next
_COARSE_PX = 4  # side of blocks; smaller ones are an image at a lower resolution
_CONTRAST = 1.5  # of steps between blocks to those beside
ENOUGH = 8  # images
_COARSEST_PX = 8  # of the smaller side of the coarsest area mean


@dataclass(frozen=True)
class Structure:
    """Hold structure of what an attack returned, and of what it returns on the null.

    Attributes:
        structure, structure_null: means over images and octaves.
        structure_error: standard error of their difference.
        structure_counts_from: the difference from which rule 1 finds it.
        structure_least: of the octave with the least.
        found, rebuilt: rules 1 and 2.
    """

    structure: float
    structure_null: float
    structure_error: float
    structure_counts_from: float
    structure_least: float
    found: bool
    rebuilt: bool


def shuffled(target: Target, rng: np.random.Generator) -> Target:
    """Return the null of a target: pixels of each image at random places, the same for symbols, ciphertexts, picture and all channels."""
    picture = np.array(target.picture)
    symbols = None if target.symbols is None else np.array(target.symbols.array)
    ciphertexts = None if target.ciphertexts is None else np.array(target.ciphertexts)
    shape = (target.height, target.width)
    for i in range(target.num_images):
        order = rng.permutation(target.height * target.width)
        picture[i] = picture[i].reshape(order.size, -1)[order].reshape(picture[i].shape)
        if symbols is not None:
            symbols[i] = symbols[i].ravel()[order].reshape(shape)
        if ciphertexts is not None:
            ciphertexts[i] = ciphertexts[i][order]
    moved = None if symbols is None else replace(target.symbols, array=symbols)
    return replace(target, picture=picture, symbols=moved, ciphertexts=ciphertexts)


def octaves(images: np.ndarray) -> np.ndarray:
    """Return the correlation of neighbours at each octave: (num_images, num_octaves), of (num_images, height, width) uint8.

    Of `ENOUGH` images or more, the mean image is taken off before.
    """
    values, found = images.astype(np.float64), []
    if len(values) >= ENOUGH:
        values = values - values.mean(0)
    while True:
        found.append((_correlations(values[:, :, :-1], values[:, :, 1:]) + _correlations(values[:, :-1], values[:, 1:])) / 2)
        if min(values.shape[1:]) < 2 * _COARSEST_PX:
            return np.stack(found, 1)
        height, width = (length // 2 * 2 for length in values.shape[1:])
        values = values[:, :height, :width].reshape(len(values), height // 2, 2, width // 2, 2).mean((2, 4))


def compare(images: np.ndarray, null: np.ndarray | None, *, partial: bool, num_tests: int) -> Structure:
    """Apply the rules to what an attack returned on a target, and on its null (None: it returned nothing there).

    Args:
        partial: the attack says that it returns a part of the images, or a guess.
        num_tests: attacks that are compared.
    """
    mine = octaves(images)
    theirs = np.zeros((1, mine.shape[1])) if null is None else octaves(null)
    one, other = mine.mean(1), theirs.mean(1)
    # An image's structure scatters by at least that of as many independent pairs, two a pixel and fewer at each octave.
    floor = float(np.sqrt((4.0 ** np.arange(mine.shape[1])).sum() / (2 * images[0].size))) / mine.shape[1]
    error = float(np.hypot(*(max(s.std(), floor) / np.sqrt(len(s)) for s in (one, other))))
    gap, counts_from = float(one.mean() - other.mean()), max(MARGIN, float(-ndtri(FALSE_ALARM / num_tests)) * error)
    found, of_octave = gap > counts_from, mine.mean(0)
    whole = of_octave.min() >= REBUILT and of_octave[0] >= of_octave[1:2].max(initial=-1) - _NOISE
    whole = whole and (block_size(images, _CONTRAST, images[0].size, smallest_px=2) or 0) < _COARSE_PX
    rebuilt = found and whole and not partial
    return Structure(float(one.mean()), float(other.mean()), error, counts_from, float(of_octave.min()), bool(found), bool(rebuilt))


def judge_structure(results: Mapping[str, Structure]) -> tuple[str, str]:
    """Return the level and the sentence, of attacks by name; it names the one that returned the most structure, of equals the first."""
    most_first = sorted(results.items(), key=lambda item: -round(item[1].structure, 2))
    for level, wanted, text in (
        (BROKEN, "rebuilt", "what {} returns has the structure of images"),
        (LEAKY, "found", "what {} returns has structure that noise has not"),
    ):
        for name, found in most_first:
            if getattr(found, wanted):
                figures = f"{found.structure:.2f}, against {found.structure_null:.2f} from the same pixels shuffled"
                return level, f"{NOT_CONFIDENTIAL}{text.format(name)} ({figures})."
    least = min((smallest_structure(found) for found in results.values()), default=None)
    limit = "" if least is None else f" Structure of {least:.2f} above the shuffled pixels' would have been found, {POWER:.0%} of the time."
    return UNBROKEN, f"No attack here succeeded, which proves nothing: another one may.{limit}"


def smallest_structure(found: Structure) -> float:
    """Return the smallest true gap to the null that rule 1 finds with probability POWER, the gap being normal about it."""
    return float(found.structure_counts_from + ndtri(POWER) * found.structure_error)


def _correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the correlation of two stacks (num_images, height, width), image by image; 0 where one of them is constant."""
    a, b = (x - x.mean((1, 2), keepdims=True) for x in (one, other))
    spread = np.sqrt((a**2).sum((1, 2)) * (b**2).sum((1, 2)))
    return np.divide((a * b).sum((1, 2)), spread, out=np.zeros(len(a)), where=spread > 0)
