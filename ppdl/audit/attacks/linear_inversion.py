"""Linear ways from views back to the images: the filters' pseudo-inverse, and regression on a neighbourhood.

Several views of the same images are one linear map: cut to the patches of the coarsest of them, their filters are rows of one matrix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ppdl.audit.examination.release_view import filter_outputs, images_to_patches, release_view
from ppdl.protections.steps.filters import Filters
from ppdl.protections.steps.noise import NoiseSecret
from ppdl.protections.steps.release import LARGEST_VALUE, Release

MIDDLE, UNIT = 127.5, 64.0  # gray levels: features are (gray - MIDDLE) / UNIT
_LEAST_NOISE = 0.5  # gray levels: what rounding leaves of a view without noise
_MOST_PATCHES = 60_000  # that a regression of some hundred numbers is fitted to
_RIDGE = 1e-5  # of the mean variance of a feature, added to it


@dataclass(frozen=True)
class Look:
    """Say how a view was made, which is public."""

    stride: int
    filters: Filters
    clip: float
    clip_detail: float
    noise: float

    def of(self, images: np.ndarray, secret: NoiseSecret) -> np.ndarray:
        """Return the view of images, int16, see `release_view`."""
        levels = {"clip": self.clip, "clip_detail": self.clip_detail, "noise": self.noise}
        return release_view(images, stride=self.stride, filters=self.filters, secret=secret, **levels)

    def gray(self, view: np.ndarray) -> np.ndarray:
        """Return the filters' outputs that a view shows, as weighted means in gray levels, (n, height, width, channels) float32."""
        release = Release(self.weights, self.clip, self.clip_detail, self.noise)
        outputs = view.astype(np.float32) * (release.limit / LARGEST_VALUE).astype(np.float32) + release.centre.astype(np.float32)
        return outputs / self.scale

    @property
    def weights(self) -> np.ndarray:
        """(channels, stride * stride) int64."""
        return self.filters.matrix(self.stride)

    @property
    def scale(self) -> np.ndarray:
        """Sum of each filter's absolute weights, (channels,) float32."""
        return np.abs(self.weights).sum(1).astype(np.float32)


def coarsest(looks: Sequence[Look]) -> int:
    """Return the side of the patches that all views are cut to; strides are powers of two, so it is a multiple of each."""
    return max(look.stride for look in looks)


def stacked(looks: Sequence[Look], views: Sequence[np.ndarray]) -> np.ndarray:
    """Return all that several views say of each patch of the coarsest one, (n, height, width, num_features) float32, see `UNIT`."""
    patch = coarsest(looks)
    parts = [_cut(look.gray(view) - _level(look), patch // look.stride) for look, view in zip(looks, views, strict=True)]
    return np.concatenate(parts, -1) / UNIT


def _level(look: Look) -> np.ndarray:
    """Return what the filters give on an image that is MIDDLE everywhere, in gray levels."""
    return (MIDDLE * look.weights.sum(1) / look.scale).astype(np.float32)


def _cut(values: np.ndarray, factor: int) -> np.ndarray:
    """Move factor x factor neighbours into the last axis, channel by channel."""
    return np.concatenate([images_to_patches(channel, factor) for channel in np.moveaxis(values, 3, 0)], -1)


def pseudo_inverse(looks: Sequence[Look]) -> np.ndarray:
    """Return the least squares solution of a patch from its features, (num_features, stride * stride) float32.

    Equations count by the inverse of their noise. What no filter sees is taken as gray as the middle.
    """
    stride = coarsest(looks)
    basis = np.eye(stride * stride, dtype=np.uint8).reshape(-1, stride, stride)
    rows, weights = [], []
    for look in looks:
        response = filter_outputs(basis, look.weights, look.stride).transpose(0, 2, 3, 1) / look.scale
        rows.append(_cut(response, stride // look.stride).reshape(len(basis), -1))
        weights.append(np.full(rows[-1].shape[1], 1 / np.hypot(look.noise, _LEAST_NOISE)))
    weight = np.concatenate(weights)
    return (np.linalg.pinv((np.concatenate(rows, 1) * weight).T, rcond=1e-9) * weight).T.astype(np.float32)


def fit_context(features: np.ndarray, patches: np.ndarray, context: int) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a ridge regression of patches on the features of their neighbourhood, (2 * context + 1)^2 patches.

    Args:
        features: (n, height, width, num_features) of images that are known, patches: (n, height, width, stride * stride), both see `UNIT`.

    Returns:
        A function from features to patches.
    """
    step = max(1, -(-features.shape[0] * features.shape[1] * features.shape[2] // _MOST_PATCHES))
    inputs, outputs = _neighbourhoods(features[::step], context), patches[::step].reshape(-1, patches.shape[-1])
    gram = (inputs.T @ inputs).astype(np.float64)
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram)
    solution = np.linalg.solve(gram, (inputs.T @ outputs).astype(np.float64)).astype(np.float32)

    def rebuild(seen: np.ndarray) -> np.ndarray:
        return np.concatenate([(_neighbourhoods(one[None], context) @ solution).reshape(1, *one.shape[:2], -1) for one in seen])

    return rebuild


def _neighbourhoods(features: np.ndarray, context: int) -> np.ndarray:
    """Return the features round each patch and a constant, (n * height * width, (2 * context + 1)^2 * num_features + 1)."""
    padded = np.pad(features, ((0, 0), (context, context), (context, context), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * context + 1, 2 * context + 1), axis=(1, 2))
    rows = windows.reshape(int(np.prod(features.shape[:3])), -1)
    return np.concatenate([rows, np.ones((len(rows), 1), np.float32)], 1)
