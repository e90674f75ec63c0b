"""How near a rebuilt image is to the original: PSNR and SSIM, by scikit-image, with the ends that a report can print."""

import numpy as np

LARGEST_PSNR = 100.0  # dB; of equal images, where it would be infinite
_WINDOW_PX = 7  # scikit-image's default


def image_psnr(original: np.ndarray, rebuilt: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB of two (height, width) uint8 images, at most `LARGEST_PSNR`."""
    from skimage.metrics import peak_signal_noise_ratio  # a second to import, and every stage checks the attacks

    if np.array_equal(original, rebuilt):
        return LARGEST_PSNR
    return min(float(peak_signal_noise_ratio(original, rebuilt, data_range=255)), LARGEST_PSNR)


def image_ssim(original: np.ndarray, rebuilt: np.ndarray) -> float:
    """Return the structural similarity of two (height, width) uint8 images of at least 3 x 3 px.

    Source: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 13(4), 2004.
    """
    from skimage.metrics import structural_similarity

    side = min(original.shape)
    window = min(_WINDOW_PX, side - (side + 1) % 2)  # odd, and no larger than the image
    return float(structural_similarity(original, rebuilt, data_range=255, win_size=window))
