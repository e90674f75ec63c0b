"""Order symbols by how often they are neighbours, with more care than one eigenvector takes.

In a single image the Fiedler vector (ppdl.protections.schemes.seriation) folds the order where few symbols hang on the rest by a thread,
such as those of a label on the film. So several orders are tried, and a likelihood decides. Its model: symbols a and b are neighbours as
often as their frequencies say, times a fall-off with the distance of their ranks, which never rises and is estimated from the order.
Where symbols are neighbours as chance has it, no order is likelier than another, and none is sought: see `_is_random`.
"""

import numpy as np
from scipy.linalg import eigh, eigvalsh
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from ppdl.protections.schemes.seriation import seriate

_SHORTEST, _NUM_WALKS = 8, 5  # steps of a random walk on the symbols, from neighbour to neighbour: 8, 16, 32, 64, 128
_NEAREST = 8  # symbols that one step of a path may reach
_REFINED = 2  # orders that are worth refining, by their likelihood before
_ROUNDS = 15  # of refinement; the order hardly changes after ten
_FEWEST_SYMBOLS = 12  # below, a fall-off cannot be estimated, and one eigenvector does
_EDGE = 1.05  # of the semicircle; single random images are beyond with probability 0.01 at 32 px, and were never at 64 (60 tried)
_MOST_SYMBOLS = 400  # above, ways between symbols take too long (cubic), and the Fiedler vector alone is refined
_TINY = np.finfo(float).tiny


def likeliest_order(pairs: np.ndarray) -> np.ndarray:
    """Order symbols so that neighbours are near each other.

    Args:
        pairs: (num_symbols, num_symbols) symmetric counts of neighbours with an empty diagonal.

    Returns:
        The symbols of the largest connected component, (num_ordered,) int, in either direction.

    Cost: some 0.2 s for 256 symbols on one core, 2 s for 1024.
    """
    first = seriate(pairs)
    if len(first) < _FEWEST_SYMBOLS:
        return first
    inner = pairs[np.ix_(first, first)]
    if _is_random(inner):
        return first
    orders = [np.arange(len(first))]
    if len(first) <= _MOST_SYMBOLS:
        orders += geodesic_orders(inner)
    orders = sorted(orders, key=lambda order: -log_likelihood(order, inner))[:_REFINED]
    best = max((refine(order, inner) for order in orders), key=lambda order: log_likelihood(order, inner))
    return first[best]


def _is_random(pairs: np.ndarray) -> bool:
    """Tell whether connected symbols are neighbours as at random with their frequencies.

    The eigenvalues of such a graph, but for the first, fill a semicircle of radius 2 / sqrt(mean degree). An order is an eigenvalue beyond.

    Source: F. Chung, L. Lu, V. Vu, "Spectra of random graphs with given expected degrees", PNAS 100(11), 2003.
    """
    k, degree = len(pairs), pairs.sum(1)
    second = eigvalsh(pairs / np.sqrt(np.outer(degree, degree)), subset_by_index=(k - 2, k - 2))[0]
    return bool(second < _EDGE * 2 / np.sqrt(degree.mean()))


def geodesic_orders(pairs: np.ndarray) -> list[np.ndarray]:
    """Order connected symbols by the length of the way between them, (num_ordered,) int, once for each number of steps.

    Two symbols are near where random walks of so many steps from either end alike. Lengths add up along the shortest path over near
    symbols, and multidimensional scaling lays them on a line: a chain of symbols that is bent in the plane unrolls.

    Source: R. R. Coifman, S. Lafon, "Diffusion maps", Applied and Computational Harmonic Analysis 21(1), 2006 (the distance);
        J. B. Tenenbaum, V. de Silva, J. C. Langford, "A global geometric framework for nonlinear dimensionality reduction", Science
        290, 2000 (shortest paths, then scaling).
    """
    k, degree = len(pairs), pairs.sum(1)
    walk = np.linalg.matrix_power((np.eye(k) + pairs / degree[:, None]) / 2, _SHORTEST)
    orders = []
    for _ in range(_NUM_WALKS):
        ends = walk / np.sqrt(degree / degree.sum())
        squares = (ends**2).sum(1)
        distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * ends @ ends.T, 0))
        orders.append(_along_ways(distance))
        walk = walk @ walk  # twice as many steps
    return orders


def _along_ways(distance: np.ndarray) -> np.ndarray:
    """Lay points on a line by the shortest paths over their nearest neighbours, (num_points,) int."""
    k = len(distance)
    np.fill_diagonal(distance, -1)  # each is nearest to itself
    nearest = np.argpartition(distance, _NEAREST, axis=1)[:, : _NEAREST + 1]
    length = np.maximum(np.take_along_axis(distance, nearest, 1), _TINY)
    ways = csr_array((length.ravel(), nearest.ravel(), np.arange(k + 1) * (_NEAREST + 1)), shape=(k, k))
    lengths = shortest_path(ways, directed=False)
    lengths[np.isinf(lengths)] = 2 * lengths[np.isfinite(lengths)].max()  # islands: far apart, wherever
    centred = -0.5 * lengths**2
    centred -= centred.mean(0)
    centred -= centred.mean(1, keepdims=True)
    _, vectors = eigh(centred, subset_by_index=(k - 1, k - 1))
    return np.argsort(vectors[:, 0], kind="stable")


def log_likelihood(order: np.ndarray, pairs: np.ndarray) -> float:
    """Return the log-likelihood of the neighbours in an order, less that of chance."""
    sorted_pairs = pairs[np.ix_(order, order)]
    degree, distance = sorted_pairs.sum(1), _distances(len(order))
    fall_off = _log_fall_off(sorted_pairs, degree, distance)
    return float(np.bincount(distance.ravel(), sorted_pairs.ravel()) @ fall_off - degree @ _log_normaliser(fall_off, degree))


def refine(order: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Move each symbol half of the way to the rank where its neighbours are likeliest, over and over.

    One eigenvector weighs all pairs alike; the fall-off knows that an edge in the image tells less than a slope.

    Args:
        order: (num_ordered,) symbols, a first order.
        pairs: (num_symbols, num_symbols) symmetric counts of neighbours with an empty diagonal.

    Returns:
        The same symbols, (num_ordered,), in the same direction.

    Cost: some 1 ms a round for 256 symbols.
    """
    ranks, distance = np.arange(len(order)), _distances(len(order))
    for _ in range(_ROUNDS):
        sorted_pairs = pairs[np.ix_(order, order)]
        degree = sorted_pairs.sum(1)
        fall_off = _log_fall_off(sorted_pairs, degree, distance)
        likelihood = sorted_pairs @ fall_off[distance] - degree[:, None] * _log_normaliser(fall_off, degree)  # (symbol, candidate rank)
        moved = np.argsort(ranks + likelihood.argmax(1), kind="stable")  # by twice the mean of the rank and the likeliest rank
        if np.array_equal(moved, ranks):
            break
        order = order[moved]
    return order


def _distances(k: int) -> np.ndarray:
    return np.abs(np.arange(k)[:, None] - np.arange(k))


def _log_fall_off(sorted_pairs: np.ndarray, degree: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the log of how much oftener than by chance two ranks are neighbours, by their distance; 0 counts as 1: (num_ordered,)."""
    from scipy.optimize import isotonic_regression

    k = len(degree)
    seen = np.bincount(distance.ravel(), sorted_pairs.ravel())[1:]
    expected = np.maximum(2 * np.correlate(degree, degree, "full")[k:] / degree.sum(), _TINY)
    ratio = (seen + 0.5 * expected / k) / expected  # never 0
    smooth = np.log(isotonic_regression(ratio, weights=expected, increasing=False).x)
    return np.concatenate([smooth[:1], smooth])


def _log_normaliser(fall_off: np.ndarray, degree: np.ndarray) -> np.ndarray:
    factor = np.exp(fall_off)
    return np.log(np.convolve(np.concatenate([factor[:0:-1], factor]), degree / degree.sum(), "valid"))
