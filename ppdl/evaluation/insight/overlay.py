"""A heat map laid over a gray image, as a picture for people."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

COLOURS = "inferno"  # its brightness rises with the value, also in print and for colour-blind readers
OPACITY = 0.65  # of the hottest spot; a cold one shows the image alone
LEGEND_PX = 20  # height of the legend
LEAST_PX = 256  # smaller images are enlarged by a whole factor


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay a heat map over an image: the hotter a place, the more of its colour covers the gray.

    Args:
        image: (height, width) uint8.
        heat: (any height, any width) in [0, 1]; brought to the image's size by bilinear interpolation.

    Returns:
        (height, width, 3) uint8.
    """
    if heat.shape != image.shape:
        size = image.shape[1], image.shape[0]
        heat = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
    cover = OPACITY * heat[..., None]
    colours = matplotlib.colormaps[COLOURS](heat)[..., :3] * 255
    return np.rint((1 - cover) * image[..., None] + cover * colours).astype(np.uint8)


def write_overlay(path: Path, image: np.ndarray, heat: np.ndarray) -> None:
    """Write the overlay of `heat` on `image` as PNG, enlarged to at least 256 pixels a side by repeating pixels; see `overlay`.

    Below it stands what its colours mean: a scale over black, from what says nothing for the class to what speaks for it most.
    """
    factor = max(1, -(-LEAST_PX // min(image.shape)))
    large = image.repeat(factor, axis=0).repeat(factor, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = overlay(large, heat)
    scale = np.linspace(0, 1, picture.shape[1], dtype=np.float32)[None].repeat(LEGEND_PX, axis=0)
    page = Image.fromarray(np.concatenate([picture, overlay(np.zeros(scale.shape, np.uint8), scale)]))
    draw, middle = ImageDraw.Draw(page), picture.shape[0] + LEGEND_PX // 2
    draw.text((4, middle), "not looked at", fill="white", anchor="lm")
    draw.text((picture.shape[1] - 4, middle), "speaks for the class", fill="black", anchor="rm", stroke_width=1, stroke_fill="white")
    page.save(path, "png", optimize=True)
