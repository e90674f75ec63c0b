"""An overlay shows the image where it is cold and the colour where it is hot."""

import matplotlib
import numpy as np
from PIL import Image

from ppdl.evaluation.insight.overlay import COLOURS, OPACITY, overlay, write_overlay

GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def test_cold_places_show_the_image_and_hot_ones_the_colour():
    heat = np.zeros((8, 8), np.float32)
    heat[2, 3] = 1
    picture = overlay(GRAY, heat)
    hottest = np.array(matplotlib.colormaps[COLOURS](1.0)[:3]) * 255
    assert picture.shape == (8, 8, 3) and picture.dtype == np.uint8
    assert np.abs(picture[2, 3] - ((1 - OPACITY) * GRAY[2, 3] + OPACITY * hottest)).max() <= 1
    picture[2, 3] = GRAY[2, 3]
    assert np.array_equal(picture, GRAY[..., None].repeat(3, axis=2))


def test_a_map_of_another_size_is_brought_to_the_images():
    heat = np.array([[0, 0], [0, 1]], np.float32)
    picture = overlay(np.full((8, 12), 100, np.uint8), heat).astype(int)
    changed = np.abs(picture - 100).sum(axis=2)
    assert changed[0, 0] == 0 and changed[-1, -1] == changed.max() > 50
    assert np.array_equal(overlay(GRAY, np.ones((2, 2))), overlay(GRAY, np.ones((8, 8))))


def test_a_small_image_is_written_large_enough_to_be_seen(tmp_path):
    write_overlay(tmp_path / "new/overlay.png", GRAY, np.zeros((8, 8)))
    with Image.open(tmp_path / "new/overlay.png") as image:
        assert image.size == (256, 276) and image.mode == "RGB"
        assert np.array_equal(np.asarray(image)[:256:32, ::32, 0], GRAY)
        legend = np.asarray(image)[256].sum(axis=1).astype(int)  # above its words
        assert legend[0] < 30 < legend[128] < legend[-1]
    write_overlay(tmp_path / "large.png", GRAY.repeat(40, axis=0).repeat(50, axis=1), np.zeros((2, 2)))
    with Image.open(tmp_path / "large.png") as image:
        assert image.size == (400, 340)
