"""Put a block-scrambled image together again, as one does a jigsaw puzzle.

Block scrambling ("encryption-then-compression") permutes the blocks of an image, may turn and mirror each and replace its pixels v by
255 - v. Inside a block all stays as it was, so two blocks that belong side by side have edges that fit.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Gt

from ppdl.audit.attacks.as_is import at_size, gray_rows, likeness, rows_with
from ppdl.audit.attacks.jigsaw_solver import TURNS, Edges, assemble, turned
from ppdl.audit.examination import base
from ppdl.audit.examination.blocks import block_size
from ppdl.errors import AttackDoesNotApply
from ppdl.records.typecheck import Count

_SAME_KEY = 0.3  # of the blocks must find the same neighbour in both halves of the images; by chance one in num_blocks does
_SHIFT_GAIN = 0.05  # in likeness to public images, before the whole is moved round


@dataclass(frozen=True)
class Jigsaw(base.Attack):
    """Find the size of the blocks from the steps between them, and reassemble by their edges.

    Where one key was used for all images, edges are compared over all of them at once, otherwise in each image alone. Whether blocks were
    turned or inverted is told from the edges that fit best.

    Attributes:
        num_images: images used to find out the arrangement where one key was used for all.
        num_scored: images put together; one by one where each has its own key.
        min_contrast: by what factor pixels must differ more across blocks than near by, to speak of blocks at all.
        max_blocks: of an image; more are not attempted.

    Raises:
        AttackDoesNotApply: (run) the picture has another size than the images.

    Cost: for 64 blocks under 1 s with one key for all images, or as much for each image with its own; grows with num_blocks^2.
    """

    num_images: Count
    num_scored: Count
    min_contrast: Annotated[float, Gt(1)]
    max_blocks: Count

    name: ClassVar[str] = "jigsaw"
    needs: ClassVar[frozenset[str]] = frozenset({base.PICTURE})
    wants: ClassVar[frozenset[str]] = frozenset({base.PRIOR})
    knowledge: ClassVar[str] = "the protected images as pictures, and public images"
    source: ClassVar[str] = (
        "T. Chuman, K. Kurihara and H. Kiya, On the security of block scrambling-based EtC systems against extended jigsaw puzzle solver "
        "attacks, IEICE Trans. Inf. & Syst. E101-D(1), 2018; A. Gallagher, Jigsaw puzzles with pieces of unknown orientation, CVPR 2012"
    )

    def run(self, target: base.Target, rng: np.random.Generator) -> tuple[base.Rebuilt, dict[str, Any]]:
        """Return the rebuilt images, and what was found out: block_px (None: no blocks, and the picture is returned as it is), one_key,
        partial (each image was put together by itself, which nothing tests)."""
        if target.picture.shape[1:3] != (target.height, target.width):
            raise AttackDoesNotApply("the picture has another size than the images")
        scored = base.scored_rows(target.num_images, self.num_scored)
        rows = rows_with(scored, target.num_images, self.num_images, rng)
        kept = np.searchsorted(rows, scored)
        images = gray_rows(target.picture, rows)
        block_px = block_size(images, self.min_contrast, self.max_blocks)
        if block_px is None:
            return base.Rebuilt(scored, images[kept]), {"block_px": None, "one_key": None, "partial": False}
        pieces = _cut(images, block_px)  # (num_images, num_blocks, block_px, block_px)
        one_key = len(rows) >= 4 and _agreement(pieces) > _SAME_KEY
        if one_key:
            rebuilt = _solve(pieces, images, target.prior)[kept]
        else:
            rebuilt = np.concatenate([_solve(pieces[i : i + 1], images[i : i + 1], target.prior) for i in kept])
        return base.Rebuilt(scored, rebuilt), {"block_px": block_px, "one_key": bool(one_key), "partial": not one_key}

    def score(self, guess: tuple[base.Rebuilt, dict[str, Any]], truth: base.Truth) -> base.Finding:
        rebuilt, found = guess
        return base.Finding({**base.score_rebuilt(rebuilt, truth), **found, "num_scored": len(rebuilt.rows)}, rebuilt)


def _solve(pieces: np.ndarray, images: np.ndarray, prior: np.ndarray | None) -> np.ndarray:
    """Put all images together by one arrangement of blocks (num_images, num_blocks, size, size): as `images`.

    Edges leave open how the whole is turned, whether it is inverted, and, where the rim is flat, where it begins: a puzzle closes round a
    black rim as well as elsewhere. Public images tell.
    """
    size = pieces.shape[-1]
    rows, columns = images.shape[1] // size, images.shape[2] // size
    layout = assemble(Edges.of(pieces), rows, columns)
    rebuilt = images.copy()
    for k, (row, column, turn, negative) in enumerate(layout):
        block = turned(pieces[:, k], turn)
        spot = (slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size))
        rebuilt[:, *spot] = 255 - block if negative else block
    if prior is None:
        return rebuilt
    prior = at_size(prior, *images.shape[1:]).mean(0, dtype=np.float64)
    mean = rebuilt.mean(0, dtype=np.float64)
    unturned = all(turn == 0 and not negative for _, _, turn, negative in layout)
    turns = [turn for turn in range(1 if unturned else len(TURNS)) if turned(mean, turn).shape == mean.shape]
    signs = (1,) if unturned else (1, -1)
    found: dict[tuple[tuple[int, int], int, int], float] = {}
    for shift in ((r, c) for r in range(rows) for c in range(columns)):
        moved = _shifted(mean, shift, size)
        found |= {(shift, turn, sign): sign * likeness(turned(moved, turn), prior) for turn in turns for sign in signs}
    unmoved = max((key for key in found if key[0] == (0, 0)), key=lambda key: found[key])
    best = max(found, key=lambda key: found[key])
    shift, turn, sign = best if found[best] > found[unmoved] + _SHIFT_GAIN else unmoved
    rebuilt = turned(_shifted(rebuilt, shift, size), turn)
    return 255 - rebuilt if sign < 0 else rebuilt


def _shifted(images: np.ndarray, shift: tuple[int, int], size: int) -> np.ndarray:
    """Move the blocks of images (..., height, width) round by rows and columns; what is left of the last block stays."""
    if shift == (0, 0):
        return images
    height, width = (length // size * size for length in images.shape[-2:])
    moved = images.copy()
    moved[..., :height, :width] = np.roll(images[..., :height, :width], (shift[0] * size, shift[1] * size), (-2, -1))
    return moved


def _cut(images: np.ndarray, size: int) -> np.ndarray:
    """Cut images into blocks, row by row: (num_images, num_blocks, size, size)."""
    n, rows, columns = len(images), images.shape[1] // size, images.shape[2] // size
    whole = images[:, : rows * size, : columns * size]
    return whole.reshape(n, rows, size, columns, size).transpose(0, 1, 3, 2, 4).reshape(n, rows * columns, size, size)


def _agreement(pieces: np.ndarray) -> float:
    """Return for what share of the blocks one half of the images finds the same best neighbour as the other half."""
    first, second = (Edges.of(half).best_neighbours() for half in (pieces[::2], pieces[1::2]))
    return float(np.mean(first == second))
