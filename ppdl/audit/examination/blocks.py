"""Cut pictures into blocks, find those that a picture is made of, and transform blocks as JPEG does."""

import numpy as np
from scipy.fft import dctn, idctn

DCT_PX = 8  # side of a DCT block

_FEWEST_BOUNDARIES = 3  # of a block size, in each direction
_SHARE = 0.75  # of the best contrast: a multiple of the block size has all of it, a half of the block size half of it


def block_size(images: np.ndarray, min_contrast: float, max_blocks: int, smallest_px: int = 4) -> int | None:
    """Return the side of the blocks of (num_images, height, width) in px, or None where the steps between pixels have no period.

    Args:
        min_contrast: by what factor pixels must differ more across blocks than near by.
        max_blocks: of an image; smaller blocks are not looked for.
    """
    height, width = images.shape[1:]
    values = images.astype(np.float64)
    across, down = np.abs(np.diff(values, axis=2)).mean((0, 1)), np.abs(np.diff(values, axis=1)).mean((0, 2))
    found = {
        size: float(np.mean([_contrast(across, size), _contrast(down, size)]))
        for size in range(smallest_px, min(height, width) // (_FEWEST_BOUNDARIES + 1) + 1)
        if (height // size) * (width // size) <= max_blocks
    }
    most = max(found.values(), default=-np.inf)
    return None if most < np.log(min_contrast) else next(size for size, contrast in found.items() if contrast >= _SHARE * most)


def _contrast(steps: np.ndarray, size: int) -> float:
    """Return the log of how much larger steps between blocks of a size are than the steps right beside them.

    Args:
        steps: mean absolute difference of pixels x and x + 1, (length - 1,).
    """
    at = np.arange(size, len(steps) - 1, size) - 1
    beside = (steps[at - 1] + steps[at + 1]) / 2
    return float(np.mean(np.log((steps[at] + 1e-3) / (beside + 1e-3))))


def tiled(images: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Cut (num_images, height, width) into whole blocks of `shape`: (num_images, rows, columns, *shape)."""
    rows, columns = (length // side for length, side in zip(images.shape[1:], shape, strict=True))
    whole = images[:, : rows * shape[0], : columns * shape[1]]
    return whole.reshape(len(images), rows, shape[0], columns, shape[1]).transpose(0, 1, 3, 2, 4)


def coefficients(images: np.ndarray) -> np.ndarray:
    """Return the DCT coefficients of whole blocks of images of floats: (num_images, rows, columns, 8, 8)."""
    return dctn(tiled(images, (DCT_PX, DCT_PX)), axes=(3, 4), norm="ortho")


def pixels(found: np.ndarray) -> np.ndarray:
    """Undo `coefficients`, but for the joining of blocks."""
    return idctn(found, axes=(3, 4), norm="ortho")


def joined(tiles: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Undo `tiled`; what is right of or below whole blocks is that of `rest` (num_images, height, width)."""
    n, rows, columns, down, right = tiles.shape
    images = np.array(np.broadcast_to(rest, (n, *rest.shape[1:])), tiles.dtype)
    images[:, : rows * down, : columns * right] = tiles.transpose(0, 1, 3, 2, 4).reshape(n, rows * down, columns * right)
    return images
