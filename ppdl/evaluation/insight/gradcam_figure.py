"""The figure of where networks look: test images beside the Grad-CAM of each run on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ppdl.evaluation.figures.style import TITLE
from ppdl.evaluation.insight.overlay import overlay

SIDE = 1.4  # inches of one image
OUTLINE = "#56B4E9"
RIGHT, WRONG = "#006D4A", "#B03A00"


@dataclass(frozen=True, eq=False)
class Looked:
    """Hold where one run looks on some images.

    Attributes:
        maps: (k, height, width) in [0, 1]: the Grad-CAM of the class that the run names.
        said: the class that it names, for each image.
        probabilities: its calibrated probability, for each image.
    """

    maps: np.ndarray
    said: Sequence[str]
    probabilities: Sequence[float]


def plot_gradcam(images: np.ndarray, class_names: Sequence[str], runs: Mapping[str, Looked], *, masks: np.ndarray | None = None) -> Figure:
    """Draw a column for each image: the image with its lungs outlined, and below it the Grad-CAM of each run laid over it.

    Args:
        images: (k, height, height) uint8.
        class_names: The true class of each.
        masks: (k, height, height) uint8, 255 in the lungs.
    """
    k, rows = len(images), 1 + len(runs)
    figure = Figure(figsize=(SIDE * k + 1.2, (SIDE + 0.28) * rows + 0.1), layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03))
    panels = figure.subplots(rows, k, squeeze=False)
    for column in range(k):
        panels[0, column].imshow(images[column], cmap="gray", vmin=0, vmax=255)
        panels[0, column].set_title(class_names[column], fontsize=8)
    for row, looked in enumerate(runs.values(), start=1):
        for column in range(k):
            panels[row, column].imshow(overlay(images[column], looked.maps[column]))
            said = looked.said[column]
            color = RIGHT if said == class_names[column] else WRONG
            panels[row, column].set_title(f"{said}  {100 * looked.probabilities[column]:.0f} %", fontsize=7, color=color)
    for row, name in enumerate(("image", *runs)):
        panels[row, 0].set_ylabel(name, fontsize=TITLE)
    for place, axes in np.ndenumerate(panels):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        mask = None if masks is None else masks[place[1]]
        if mask is not None and mask.any():
            axes.contour(mask, levels=[127.5], colors=[OUTLINE], linewidths=0.9)
    return figure
