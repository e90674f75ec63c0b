"""The figure shows every image with every run, right answers apart from wrong ones, and outlines only lungs that are known."""

import numpy as np

from ppdl.evaluation.insight.gradcam_figure import RIGHT, WRONG, Looked, plot_gradcam

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 48)).astype(np.uint8)
MASKS = np.zeros((3, 48, 48), np.uint8)
MASKS[:2, 10:30, 10:20] = 255


def test_panels_titles_and_outlines():
    heat = np.zeros((3, 24, 24), np.float32)
    heat[:, 3, 4] = 1
    runs = {"plain": Looked(heat, ["A", "B", "A"], [0.91, 0.5, 0.4]), "other": Looked(heat[:, :12, :12] * 0, ["A", "A", "A"], [0.4] * 3)}
    figure = plot_gradcam(IMAGES, ["A", "B", "B"], runs, masks=MASKS)
    panels = np.array(figure.axes).reshape(3, 3)
    assert [axes.get_title() for axes in panels[1]] == ["A  91 %", "B  50 %", "A  40 %"]
    assert [axes.title.get_color() for axes in panels[1]] == [RIGHT, RIGHT, WRONG]
    assert [row[0].get_ylabel() for row in panels] == ["image", "plain", "other"]
    assert [len(axes.collections) for axes in panels[0]] == [1, 1, 0]
    assert np.array_equal(panels[2, 1].images[0].get_array()[..., 0], IMAGES[1])  # a map of zeros leaves the image
    assert not any(axes.collections for axes in plot_gradcam(IMAGES, ["A", "B", "B"], runs).axes)
