"""What of an output is revealed: clip it, add noise, scale it to int16. Integer arithmetic throughout, so every machine gives the same.

For a filter with weights w, an output v on pixels 0..255 lies between lo = 255 * (sum of the negative w) and hi = 255 * (sum of the
positive w). With centre = (lo + hi) // 2 and limit = floor(clip * (hi - lo + 1) / 2), at least 1,

    x = min(max(v - centre, -limit), limit) + noise
    y = floor((2 * 32767 * x + limit) / (2 * limit)), then limited to [-32767, 32767]

is x / limit in units of 1 / 32767, rounded half up. Noise comes after clipping, so that no image moves an output further than its limit,
and before scaling, which only processes what is already noisy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ppdl.errors import ConfigError
from ppdl.protections.steps.filters import output_range
from ppdl.protections.steps.noise import LARGEST_SIGMA, NoiseSecret

LARGEST_VALUE = 32767
SCALE = 1 / LARGEST_VALUE


@dataclass(frozen=True, eq=False)
class Release:
    """Turn outputs of filters into what the trainer may see.

    Args:
        weights: (channels, stride * stride) int64.
        clip: fraction of its range that an output keeps, (0, 1], for filters whose weights do not sum to 0 (averages).
        clip_detail: the same for filters whose weights sum to 0 (differences), which use little of their range on photographs.
        noise: standard deviation in gray levels of the filter's weighted mean: noise * sum |w| in units of the output.

    Raises:
        ConfigError: a value breaks its rule.
    """

    weights: np.ndarray
    clip: float
    clip_detail: float
    noise: float

    def __post_init__(self) -> None:
        check_release(self.clip, self.clip_detail, self.noise)
        if self.sigma.max() > LARGEST_SIGMA:
            raise ConfigError(f"noise must be at most {LARGEST_SIGMA / np.abs(self.weights).sum(1).max():.0f} here, got {self.noise}")

    @property
    def centre(self) -> np.ndarray:
        """Middle of each filter's range, (channels,) int64."""
        low, high = output_range(self.weights)
        return (low + high) // 2

    @property
    def limit(self) -> np.ndarray:
        """Largest distance from the centre that is kept, (channels,) int64."""
        low, high = output_range(self.weights)
        clip = np.where(self.weights.sum(1) == 0, self.clip_detail, self.clip)
        return np.maximum(np.floor(clip * ((high - low + 1) // 2)), 1).astype(np.int64)

    @property
    def sigma(self) -> np.ndarray:
        """Standard deviation of the noise of each channel in units of its output, (channels,) float64."""
        return self.noise * np.abs(self.weights).sum(1).astype(np.float64)

    @property
    def configuration(self) -> dict[str, Any]:
        """Everything but the image that decides what is revealed."""
        return {"weights": self.weights.tolist(), "limit": self.limit.tolist(), "sigma": self.sigma.tolist()}

    def reveal(self, outputs: np.ndarray, secret: NoiseSecret | None) -> np.ndarray:
        """Clip, add noise and scale.

        Args:
            outputs: (num_images, channels, height, width) int64.
            secret: draws the noise; None is for noise 0.

        Returns:
            (num_images, height, width, channels) int16, in units of 1 / 32767 of the limit.

        Raises:
            ConfigError: there is noise to draw and no secret.
        """
        centre, limit = self.centre[:, None, None], self.limit[:, None, None]
        values = np.clip(outputs - centre, -limit, limit)
        if self.noise:
            if secret is None:
                raise ConfigError(f"noise {self.noise} needs the owner's secret to be drawn from, got None")
            values += np.stack([secret.draw(self.configuration, image, self.sigma) for image in outputs])
        scaled = (2 * LARGEST_VALUE * values + limit) // (2 * limit)
        return np.clip(scaled, -LARGEST_VALUE, LARGEST_VALUE).astype(np.int16).transpose(0, 2, 3, 1)


def check_release(clip: float, clip_detail: float, noise: float) -> None:
    """Raise ConfigError unless the values could be used with some filters."""
    for name, value in (("clip", clip), ("clip_detail", clip_detail)):
        if not _is_number(value) or not 0 < value <= 1:
            raise ConfigError(f"{name} must be a fraction of an output's range, above 0 and at most 1, got {value!r}")
    if not _is_number(noise) or not 0 <= noise < float("inf"):
        raise ConfigError(f"noise must be a standard deviation >= 0 in gray levels, got {noise!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
