"""Arrange square blocks by their edges: the surest pairs first, clusters joined into one (after Gallagher 2012)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# The eight ways to turn and mirror a block, as matrices on (row, column); 0 leaves it.
TURNS = tuple(
    np.array(m)
    for m in (
        ((1, 0), (0, 1)),
        ((0, -1), (1, 0)),
        ((-1, 0), (0, -1)),
        ((0, 1), (-1, 0)),
        ((1, 0), (0, -1)),
        ((0, 1), (1, 0)),
        ((-1, 0), (0, 1)),
        ((0, -1), (-1, 0)),
    )
)
_NUMBER = {m.tobytes(): i for i, m in enumerate(TURNS)}
# Sides top, right, bottom, left: where they face, and the way their pixels are read.
_FACES = np.array(((-1, 0), (0, 1), (1, 0), (0, -1)))
_READS = np.array(((0, 1), (1, 0), (0, 1), (1, 0)))
_UPRIGHT = 0.8  # of the surest pairs must fit unturned for all blocks to be taken as unturned; by chance 1 in 16 does
_CANDIDATES = 12  # neighbours tried for each edge

_Cluster = dict[int, tuple[np.ndarray, np.ndarray, bool]]  # by block: its place, its turn, whether it is inverted
_Frame = dict[tuple[int, ...], tuple[int, np.ndarray, bool]]  # by (row, column): its block, turn, whether it is inverted


def turned(blocks: np.ndarray, turn: int) -> np.ndarray:
    """Turn blocks (..., height, width) by the matrix TURNS[turn]."""
    (a, b), (c, d) = TURNS[turn]
    if a == 0:
        blocks, (row, column) = np.swapaxes(blocks, -1, -2), (b, c)
    else:
        row, column = a, d
    return blocks[..., ::row, ::column]


@dataclass(frozen=True, eq=False)
class Edges:
    """How badly edges fit: distance[i, side, j, side, reversed, negative], float32; the least is best."""

    distance: np.ndarray

    @classmethod
    def of(cls, pieces: np.ndarray) -> Edges:
        """Compare the edges of blocks (num_images, num_blocks, size, size) uint8 over all images.

        Each edge is carried on by half a pixel along its slope, and two of them are compared where they would meet.
        """
        values = pieces.astype(np.float32) - 127.5
        outer = [values[:, :, 0], values[:, :, :, -1], values[:, :, -1], values[:, :, :, 0]]
        inner = [values[:, :, 1], values[:, :, :, -2], values[:, :, -2], values[:, :, :, 1]]
        lines = np.stack([1.5 * o - 0.5 * i for o, i in zip(outer, inner, strict=True)], 2)  # (num_images, num_blocks, 4, size)
        count, length = lines.shape[1], lines.shape[0] * lines.shape[3]
        flat = lines.transpose(1, 2, 0, 3).reshape(count * 4, length)
        back = lines[..., ::-1].transpose(1, 2, 0, 3).reshape(count * 4, length)
        power = (flat**2).sum(1)
        total = power[:, None] + power[None, :]
        distance = np.empty((count, 4, count, 4, 2, 2), np.float32)
        for k, other in enumerate((flat, back)):
            inner_product = 2 * flat @ other.T
            for negative, sign in enumerate((-1, 1)):
                distance[..., k, negative] = np.maximum(total + sign * inner_product, 0).reshape(count, 4, count, 4)
        same = np.arange(count)
        distance[same, :, same] = np.inf
        return cls(distance)

    def best_neighbours(self) -> np.ndarray:
        """Return the best partner of each edge, with how they meet, as one number: (num_blocks * 4,)."""
        count = len(self.distance)
        return self.distance.reshape(count * 4, -1).argmin(1)

    def pairs(self) -> tuple[np.ndarray, bool]:
        """Return the candidate pairs, surest first: (num_pairs, 6) of i, side, j, side, reversed, negative; and whether none is turned.

        A pair is the surer the smaller its distance is against the second best partner of either edge.
        """
        count = len(self.distance)
        rows = self.distance.reshape(count * 4, -1)
        upright = _only_upright(self.distance)
        if self._unturned():
            rows = upright.reshape(count * 4, -1)
            flags = True
        else:
            flags = False
        tried = min(_CANDIDATES, rows.shape[1])
        near = np.argpartition(rows, tried - 1, 1)[:, :tried]
        found = np.take_along_axis(rows, near, 1)
        second = np.partition(found, 1, 1)[:, 1] + 1e-6
        edge, slot = np.nonzero(np.isfinite(found))
        column = near[edge, slot]
        partner = column // 4  # (j, side) of the partner
        ratio = found[edge, slot] / np.minimum(second[edge], second[partner])
        order = np.lexsort((found[edge, slot], ratio))
        edge, column = edge[order], column[order]
        table = np.stack([edge // 4, edge % 4, column // 16, column // 4 % 4, column // 2 % 2, column % 2], 1)
        return table, flags

    def _unturned(self) -> bool:
        count = len(self.distance)
        rows = self.distance.reshape(count * 4, -1)
        best = rows.argmin(1)
        two = np.partition(rows, 1, 1)[:, :2]
        sure = np.argsort(two[:, 0] / (two[:, 1] + 1e-6))[: max(4, count)]
        plain = np.isfinite(_only_upright(self.distance).reshape(count * 4, -1)[sure, best[sure]])
        return bool(plain.mean() >= _UPRIGHT)


def _only_upright(distance: np.ndarray) -> np.ndarray:
    """Return distances with inf where a block would have to be turned, mirrored or inverted."""
    kept = np.full_like(distance, np.inf)
    for side in range(4):
        kept[:, side, :, (side + 2) % 4, 0, 0] = distance[:, side, :, (side + 2) % 4, 0, 0]
    return kept


def assemble(edges: Edges, rows: int, columns: int) -> list[tuple[int, int, int, bool]]:
    """Arrange blocks in a frame of rows x columns: (row, column, number of the turn, negative) of each block.

    The surest pairs are joined first, unless blocks would overlap or not fit the frame. The largest cluster is laid into the frame, and
    the others' blocks fill the gaps one by one.
    """
    table, unturned = edges.pairs()
    count = len(edges.distance)
    cluster: dict[int, _Cluster] = {k: {k: (np.zeros(2, int), TURNS[0], False)} for k in range(count)}
    home = list(range(count))
    for i, side_i, j, side_j, back, negative in table.tolist():
        if home[i] == home[j]:
            continue
        joined = _join(cluster[home[i]], cluster[home[j]], (i, side_i, j, side_j, back, negative), (rows, columns))
        if joined is None:
            continue
        old = home[j]
        for k in cluster[old]:
            home[k] = home[i]
        cluster[home[i]] = joined
        del cluster[old]
    largest = max(cluster.values(), key=len)
    return _fill(_laid(largest, rows, columns), edges, rows, columns, unturned)


def _join(ours: _Cluster, theirs: _Cluster, pair: tuple[int, ...], frame: tuple[int, int]) -> _Cluster | None:
    """Join two clusters along a pair of edges; None where they overlap or outgrow the frame in both directions."""
    i, side_i, j, side_j, back, negative = pair
    place_i, turn_i, negative_i = ours[i]
    place_j, turn_j, negative_j = theirs[j]
    wanted = _turn_of_partner(turn_i, side_i, side_j, back)
    whole = wanted @ turn_j.T
    start = place_i + turn_i @ _FACES[side_i]
    flip = negative_i ^ bool(negative) ^ negative_j
    moved = {k: (whole @ (place - place_j) + start, whole @ turn, sign ^ flip) for k, (place, turn, sign) in theirs.items()}
    taken = {tuple(place) for place, _, _ in ours.values()}
    if any(tuple(place) in taken for place, _, _ in moved.values()):
        return None
    joined = {**ours, **moved}
    places = np.array([place for place, _, _ in joined.values()])
    extent = places.max(0) - places.min(0) + 1
    fits = (extent <= frame).all() or (extent[::-1] <= frame).all()
    return joined if fits else None


def _turn_of_partner(turn_i: np.ndarray, side_i: int, side_j: int, back: int) -> np.ndarray:
    """Return the turn of j that brings its side against i's: it faces i, and reads along i's side, or against it."""
    faces, reads = -turn_i @ _FACES[side_i], turn_i @ _READS[side_i] * (-1 if back else 1)
    return np.stack([faces, reads], 1) @ np.stack([_FACES[side_j], _READS[side_j]], 1).T


def _laid(cluster: _Cluster, rows: int, columns: int) -> _Frame:
    """Lay a cluster into the middle of the frame, turned if it fits only so: {(row, column): (block, turn, negative)}."""
    places = np.array([place for place, _, _ in cluster.values()])
    whole = TURNS[0] if (np.ptp(places, 0) < (rows, columns)).all() else TURNS[1]
    places = places @ whole.T
    offset = (np.array((rows, columns)) - places.max(0) - places.min(0) - 1) // 2
    laid: _Frame = {}
    for (k, (_, turn, negative)), place in zip(cluster.items(), places + offset, strict=True):
        laid[tuple(int(x) for x in place)] = (k, whole @ turn, negative)
    return laid


def _fill(laid: _Frame, edges: Edges, rows: int, columns: int, unturned: bool) -> list[tuple[int, int, int, bool]]:
    """Fill the gaps, always the one with the most neighbours, by the block that fits them best."""
    left = sorted(set(range(len(edges.distance))) - {k for k, _, _ in laid.values()})
    turns = TURNS[:1] if unturned else TURNS
    while left:
        empty = [(r, c) for r in range(rows) for c in range(columns) if (r, c) not in laid]
        spot = max(empty, key=lambda p: sum(tuple(np.add(p, face)) in laid for face in _FACES))
        costs = {(t, s): _cost(laid, edges, spot, left, turn, s) for t, turn in enumerate(turns) for s in ((0,) if unturned else (0, 1))}
        t, s = min(costs, key=lambda key: costs[key].min())
        k = left.pop(int(costs[t, s].argmin()))
        laid[spot] = (k, turns[t], bool(s))
    result: list[Any] = [None] * len(edges.distance)
    for (row, column), (k, turn, negative) in laid.items():
        result[k] = (row, column, _NUMBER[np.ascontiguousarray(turn).tobytes()], bool(negative))
    return result


def _cost(laid: _Frame, edges: Edges, spot: tuple[int, int], left: list[int], turn: np.ndarray, negative: int) -> np.ndarray:
    """Return how badly each block left fits at a spot, turned so: (num_left,)."""
    total = np.zeros(len(left))
    for side in range(4):
        neighbour = laid.get(tuple(int(x) for x in np.add(spot, turn @ _FACES[side])))
        if neighbour is None:
            continue
        j, turn_j, negative_j = neighbour
        side_j = next(s for s in range(4) if (turn_j @ _FACES[s] == -turn @ _FACES[side]).all())
        back = int((turn @ _READS[side] != turn_j @ _READS[side_j]).any())
        total += edges.distance[left, side, j, side_j, back, int(negative) ^ int(negative_j)]
    return total
