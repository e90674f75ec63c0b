"""Confidence intervals from resampled test images.

Method: cluster bootstrap. Groups, not images, are drawn with replacement, as many as there are, since images of one patient are no
independent witnesses; a group's images come along as often as it was drawn. The interval is from the 2.5th to the 97.5th percentile
of the metric over the resamples (the percentile method). Two known failures of it are repaired:

- A share without a single error (or hit) would get an interval of width zero. It gets Clopper and Pearson's exact bound instead,
  with the groups as the trials.
- A metric that resampling inflates, such as the calibration error, may leave its own interval. Its resamples are first shifted so
  that their mean falls on the estimate.

What such an interval says: how much the figure may move with other test images *for these trained networks*. It says nothing about
another training seed.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; Davison and Hinkley, Bootstrap Methods and their
    Application (1997), section 3.8 (clusters); Clopper and Pearson, Biometrika 26 (1934) 404.
"""

from collections.abc import Iterator

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from ppdl.errors import ConfigError, DataError

CONFIDENCE = 0.95
MIN_BOOTSTRAP = 100
CHUNK_NUMBERS = 2_000_000  # weights held at once: 16 MB, whatever the number of images and resamples

Interval = tuple[float | None, float | None]


def group_codes(groups: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the groups from 0: ((num_images,) codes, num_groups).

    Raises:
        DataError: All images are of one group, from which no spread can be learnt.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    num_groups = int(codes.max()) + 1
    if num_groups < 2:
        raise DataError(f"an interval needs test images of at least 2 groups, got {len(codes)} images of one group")
    return codes, num_groups


def group_sums(values: np.ndarray, codes: np.ndarray, num_groups: int) -> np.ndarray:
    """Add up the rows of `values` (num_images, num_values) by group: (num_groups, num_values) float64."""
    sums = np.zeros((num_groups, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def resamples(num_groups: int, *, num_bootstrap: int, seed: int, width: int) -> Iterator[np.ndarray]:
    """Yield (chunk, num_groups) float64: how often each group was drawn; the chunks have `num_bootstrap` rows together.

    Args:
        width: Numbers a caller holds for each resample (at least num_groups), from which the size of the chunks follows.

    Cost: 20 ns for each group and resample: 2,000 resamples of 20,000 groups take 0.8 s.
    """
    if num_bootstrap < MIN_BOOTSTRAP:
        raise ConfigError(f"evaluation.num_bootstrap must be >= {MIN_BOOTSTRAP} to find a 2.5th percentile, got {num_bootstrap}")
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_NUMBERS // max(width, num_groups))
    for start in range(0, num_bootstrap, chunk):
        rows = min(chunk, num_bootstrap - start)
        drawn = rng.integers(num_groups, size=(rows, num_groups)) + np.arange(rows)[:, None] * num_groups
        yield np.bincount(drawn.ravel(), minlength=rows * num_groups).reshape(rows, num_groups).astype(np.float64)


def interval(samples: np.ndarray, estimate: float, *, recentre: bool = False) -> Interval:
    """Return the ends of the percentile interval, which always holds the estimate.

    Args:
        samples: (num_bootstrap,) the metric on each resample; NaN where it is undefined, which is left out.
        estimate: The metric on all images. NaN gives (None, None).
        recentre: Shift the samples so that their mean falls on the estimate, within [0, 1]: for errors that resampling inflates.
    """
    samples = samples[~np.isnan(samples)]
    if np.isnan(estimate) or not len(samples):
        return None, None
    if recentre:
        samples = np.clip(samples - (samples.mean() - estimate), 0, 1)
    return percentiles(samples, estimate)


def percentiles(samples: np.ndarray, estimate: float) -> tuple[float, float]:
    """Return the ends of the percentile interval of samples and an estimate that are all defined; it always holds the estimate."""
    low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(min(low, estimate)), float(max(high, estimate))


def share_interval(samples: np.ndarray, estimate: float, num_trials: int) -> Interval:
    """Return `interval` for a share, with Clopper and Pearson's bound where the estimate is exactly 0 or 1.

    Args:
        num_trials: Groups that the share is about; a share of nothing gives (None, None).
    """
    if not num_trials:
        return None, None
    if estimate in (0.0, 1.0):
        low, high = proportion_confint(int(estimate) * num_trials, num_trials, alpha=1 - CONFIDENCE, method="beta")
        return float(low), float(high)
    return interval(samples, estimate)
