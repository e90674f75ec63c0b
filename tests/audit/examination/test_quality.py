"""PSNR and SSIM keep scikit-image's values and give numbers that JSON can hold."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from ppdl.audit.examination.quality import LARGEST_PSNR, image_psnr, image_ssim


def test_equal_images_have_the_ends_of_the_scales():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert image_psnr(image, image) == LARGEST_PSNR and image_ssim(image, image) == pytest.approx(1)


def test_one_level_off_everywhere_is_48_db():
    image = np.full((16, 16), 100, np.uint8)
    assert image_psnr(image, image + 1) == pytest.approx(20 * np.log10(255))


@pytest.mark.parametrize("side", [3, 4, 6, 7, 8, 64])
def test_the_window_fits_the_image(side):
    a, b = np.random.default_rng(0).integers(0, 256, (2, side, side), dtype=np.uint8)
    window = {3: 3, 4: 3, 6: 5}.get(side, 7)
    assert image_ssim(a, b) == pytest.approx(structural_similarity(a, b, data_range=255, win_size=window))
