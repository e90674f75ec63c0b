"""What public images tell about the gray values of symbols: how often each value occurs, and which values occur at all."""

from collections.abc import Iterator
from typing import Any

import numpy as np

NUM_VALUES = 256
UNKNOWN = NUM_VALUES // 2  # for a symbol about which nothing is known

_BLOCK_PIXELS = 1 << 22
_LEAST_LOG = np.log(0.02)  # the public images are other images: what they do or do not show is never certain
_HISTOGRAM_WEIGHT = 10.0  # of all symbols' places in the histogram together, in log-likelihood: breaks ties, decides nothing
_PLACE_STD = 0.05  # by which the share of darker pixels differs between two sets of images, beside sampling


def blocks(symbols: Any) -> Iterator[np.ndarray]:
    """Read (num_images, height, width) symbols block by block as int64."""
    step = max(1, _BLOCK_PIXELS // int(np.prod(symbols.shape[1:])))
    for start in range(0, symbols.shape[0], step):
        yield np.asarray(symbols[np.arange(start, min(start + step, symbols.shape[0]))]).astype(np.int64)


def symbol_counts(symbols: Any, num_symbols: int) -> np.ndarray:
    """Count the pixels of each symbol, (num_symbols,) int64. Cost: reads the whole set, some 5 ns a pixel."""
    counts = np.zeros(num_symbols, np.int64)
    for block in blocks(symbols):
        counts += np.bincount(block.ravel(), minlength=num_symbols)
    return counts


def value_counts(images: np.ndarray) -> np.ndarray:
    """Count the pixels of each gray value, (256,) int64."""
    return np.bincount(np.asarray(images).ravel(), minlength=NUM_VALUES)


def values_in_order(counts: np.ndarray, prior: np.ndarray, num_images: int) -> np.ndarray:
    """Give gray values to symbols whose order is known and that stand for different values.

    Ordered symbols are nearly a ruler: k of them fill 256 values but for 256 - k gaps. Where the gaps are likely is seen in the
    public images (a value that few of them show is probably missing here); how many pixels are darker decides what that leaves open.
    The posterior mean over all ways to leave gaps is found by dynamic programming, as an alignment of two sequences.

    Args:
        counts: (num_ordered,) pixels of each symbol, in order.
        prior: (num_prior, height, width) uint8 public images.
        num_images: how many images the symbols were counted in.

    Returns:
        (num_ordered,) float64, ascending, within 0..255. More than 256 symbols are spread evenly.

    Cost: 512 steps over an array of num_ordered.
    """
    k = len(counts)
    if k > NUM_VALUES:
        return np.linspace(0, NUM_VALUES - 1, k)
    public = np.stack([value_counts(image) for image in prior])  # (num_prior, 256)
    absent, present = _log_presence(public, num_images)
    place = present[:, None] + _log_place(counts, public, num_images)  # (256, k)
    before = np.full((NUM_VALUES + 1, k + 1), -np.inf)  # [v, i]: the first i symbols have values below v
    before[0, 0] = 0.0
    for v in range(NUM_VALUES):
        before[v + 1] = before[v] + absent[v]
        before[v + 1, 1:] = np.logaddexp(before[v + 1, 1:], before[v, :-1] + place[v])
    after = np.full((NUM_VALUES + 1, k + 1), -np.inf)  # [v, i]: all but the first i have values from v on
    after[NUM_VALUES, k] = 0.0
    for v in range(NUM_VALUES - 1, -1, -1):
        after[v] = after[v + 1] + absent[v]
        after[v, :-1] = np.logaddexp(after[v, :-1], after[v + 1, 1:] + place[v])
    posterior = np.exp(before[:-1, :-1] + place + after[1:, 1:] - before[NUM_VALUES, k])
    return posterior.T @ np.arange(NUM_VALUES)


def _log_presence(public: np.ndarray, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the log probabilities that a value is absent from, and present in, `num_images` images: twice (256,)."""
    showing = np.count_nonzero(public, axis=0)
    log_absent = num_images * np.log1p(-(showing + 0.5) / (len(public) + 1))
    return np.maximum(log_absent, _LEAST_LOG), np.maximum(np.log(-np.expm1(log_absent)), _LEAST_LOG)


def _log_place(counts: np.ndarray, public: np.ndarray, num_images: int) -> np.ndarray:
    """Return how well the share of darker pixels fits each symbol at each value, log-likelihood (256, num_ordered)."""
    shares = np.cumsum(public, axis=1) / public.sum(1, keepdims=True)
    variance = shares.var(0) / num_images + _PLACE_STD**2
    share = (np.cumsum(counts) - counts / 2) / counts.sum()
    misfit = (share[None, :] - shares.mean(0)[:, None]) ** 2 / variance[:, None]
    return -0.5 * _HISTOGRAM_WEIGHT / len(counts) * misfit
