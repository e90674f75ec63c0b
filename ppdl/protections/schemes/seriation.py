"""Order the symbols of a substitution cipher on images by gray value, from the ciphertexts alone.

Neighbouring pixels of a photograph or an X-ray have nearly equal values, so symbols that often stand side by side belong to nearly
equal values. Ordering by the Fiedler vector of that co-occurrence graph is spectral seriation (Atkins, Boman and Hendrickson 1998, "A
spectral algorithm for seriation and the consecutive ones problem", SIAM J. Comput. 28(1)), here with the normalised Laplacian.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.csgraph import connected_components

from ppdl.arrays import Rows

_BLOCK_PIXELS = 1 << 22  # bounds the memory of the pair index to some 100 MB


def co_occurrence(symbols: Rows, rows: np.ndarray, num_symbols: int) -> np.ndarray:
    """Count how often two symbols are horizontal or vertical neighbours.

    Args:
        symbols: (num_images, height, width) integers below `num_symbols`, usually memory-mapped.
        rows: which images to read, (num_rows,) int.
        num_symbols: size of the alphabet.

    Returns:
        (num_symbols, num_symbols) float64, symmetric, with an empty diagonal.
    """
    counts = np.zeros(num_symbols * num_symbols, np.int64)
    step = max(1, _BLOCK_PIXELS // int(np.prod(symbols.shape[1:])))
    for start in range(0, len(rows), step):
        block = np.asarray(symbols[np.sort(rows[start : start + step])]).astype(np.int32)
        for a, b in ((block[:, :, :-1], block[:, :, 1:]), (block[:, :-1], block[:, 1:])):
            counts += np.bincount((a * num_symbols + b).ravel(), minlength=num_symbols * num_symbols)
    pairs = counts.reshape(num_symbols, num_symbols).astype(np.float64)
    pairs += pairs.T
    np.fill_diagonal(pairs, 0)
    return pairs


def seriate(pairs: np.ndarray) -> np.ndarray:
    """Order symbols so that those that co-occur are near each other.

    Args:
        pairs: (num_symbols, num_symbols) symmetric counts with an empty diagonal.

    Returns:
        The symbols of the largest connected component in order, (num_ordered,) int. The direction is arbitrary. Symbols outside
        it (never seen, or only among themselves) carry no information on their place and are left out.
    """
    _, component = connected_components(pairs > 0, directed=False)
    members = np.flatnonzero(component == np.bincount(component).argmax())
    if len(members) < 3:
        return members
    weights = pairs[np.ix_(members, members)]
    degree = weights.sum(1)
    laplacian = np.eye(len(members)) - weights / np.sqrt(np.outer(degree, degree))
    _, vectors = eigh(laplacian, subset_by_index=(1, 1))
    return members[np.argsort(vectors[:, 0] / np.sqrt(degree), kind="stable")]


def spectral_table(symbols: Rows, rows: np.ndarray, num_symbols: int) -> np.ndarray:
    """Return a gray value in [-1, 1] for each symbol, (num_symbols, 1) float32, from the symbols alone.

    The rank in the seriation is the value. Of the two directions the one is taken in which the centre of the images is brighter than
    their rim, which holds for X-rays of a chest. A symbol that the seriation could not place gets 0.
    """
    order = seriate(co_occurrence(symbols, rows, num_symbols))
    table = np.zeros(num_symbols, np.float32)
    table[order] = np.linspace(-1, 1, len(order)) if len(order) > 1 else 0
    sample = np.asarray(symbols[np.sort(rows[:: max(1, len(rows) // 256)])])
    values = table[sample].mean(0)
    height, width = values.shape
    centre = values[height // 4 : height - height // 4, width // 4 : width - width // 4]
    rim_sum, rim_count = values.sum() - centre.sum(), values.size - centre.size
    if rim_count and centre.mean() < rim_sum / rim_count:
        table = -table
    return table[:, None]
