"""Bound what outputs of integer filters tell about pixels: which pixels have one value only that gives these outputs.

Pixels are integers in 0..255, so rank over the reals says little: 1 * a + 256 * b is one equation, and gives both. Two patches x and x + k
give the same outputs exactly if k is in the integer kernel of all filters. So a pixel of x is determined where no integer vector k with
W k = 0 and 0 <= x + k <= 255 changes it, and a patch has one solution where all its pixels are determined.

All outputs count together, whatever their stride and the size of the encrypted images: the kernel is that of a tile on which the patches
of every stride begin anew. Smaller images are taken for area means of the same ones, rounded (ppdl.datasets.prepared.resize): a mean and
its remainder are unknowns of their own, sum over the area = area * mean + remainder. Noise and clipping are left out: they only take away.

Whether such a k exists is an integer program, which HiGHS decides. A k that it finds is checked in integers; where floating point wrongly
says that there is none, a pixel counts as determined. So the bound errs to one side. A pixel with few values is counted too:
1 * a + 128 * b determines neither pixel, but leaves two values of a, of which one is much smoother. Work is bounded in programs and
nodes, never by a clock, so that every run decides alike.

Source: Q. Huangfu, J. A. J. Hall, "Parallelizing the dual revised simplex method", Mathematical Programming Computation 10, 2018 (HiGHS, in
scipy.optimize.milp); J. Oxley, "Matroid Theory", 2011, section 4.1 (the finest blocks of a linear system are read off its reduced
echelon form).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cache, cached_property

import numpy as np

from ppdl.datasets.phantoms.film import CLASS_NAMES, render
from ppdl.errors import ConfigError

FEW_VALUES = 16  # of a pixel: so few let whoever knows that neighbours are alike choose the right one nearly always
METHOD = 2  # goes into digests of decisions: raise it when the figures below or the method change
LARGEST_PIXEL = 255
NUM_TILES, FEWEST_TILES = 2**18, 100  # of each kind that are measured: NUM_TILES over the square of the unknowns, 16,384 of 2 x 2 pixels
FILM_PX, NUM_FILMS, SEED = 128, 4, 20220314
MOST_UNKNOWNS = 1000  # of a tile: 24 x 24 pixels, the means of smaller images and their remainders
NUM_TRIED, NUM_KEPT = 2**18, 8  # kept: for each unknown
MOST_PROGRAMS, MOST_NODES = 2000, 10_000
_INFEASIBLE = 2  # as scipy's milp says it


@dataclass(frozen=True)
class Outputs:
    """Filters at a stride on images of a size; `weights` has a row of stride * stride integers for each filter."""

    height: int
    width: int
    stride: int
    weights: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


@dataclass(frozen=True)
class Disclosure:
    """What outputs tell, as shares in [0, 1] of uniform random patches and of patches of phantoms.

    Attributes:
        patches_unique_uniform, patches_unique_phantom: of patches that have one solution in 0..255.
        pixels_determined_uniform, pixels_determined_phantom: of pixels that have one value.
        worst_pixel: of uniform patches in which the pixel that has the least freedom has at most FEW_VALUES values. Where images of several
            sizes count together, values are counted along too few vectors to tell, and it is the share in which it has one value.
        patch_height, patch_width: in px of the largest images; patches of all strides begin anew on it.
    """

    patches_unique_uniform: float
    patches_unique_phantom: float
    pixels_determined_uniform: float
    pixels_determined_phantom: float
    worst_pixel: float
    patch_height: int
    patch_width: int

    @property
    def shares(self) -> dict[str, float]:
        """The shares that reports show, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name.startswith(("patches_", "pixels_"))}

    def __str__(self) -> str:
        return (
            f"patches of {self.patch_height} x {self.patch_width} px with one solution: {self.patches_unique_uniform:.2%} of uniform "
            f"random ones, {self.patches_unique_phantom:.2%} of phantoms; pixels with one value: {self.pixels_determined_uniform:.2%} and "
            f"{self.pixels_determined_phantom:.2%}"
        )


class Undecided(ConfigError):
    """The bounded work did not decide what outputs tell."""


def disclosure(outputs: Sequence[Outputs]) -> Disclosure:
    """Measure what `outputs`, all together and without noise, tell about the largest images.

    Raises:
        Undecided: a tile or the work would be too large.

    Cost: 0.7 s for filters that leave one unknown a block, such as three of `dct` at stride 2; up to some 10 s else, and longer
        where sizes do not divide each other, or where it cannot decide.
    """
    return Tile(essential(outputs)).measure()


def essential(outputs: Sequence[Outputs]) -> tuple[Outputs, ...]:
    """Leave out the filters whose outputs follow from others' on images of the same size, in a fixed order."""
    kept: list[Outputs] = []
    for height, width in sorted({found.size for found in outputs}):
        same = sorted({(found.stride, row) for found in outputs if found.size == (height, width) for row in found.weights})
        side = math.lcm(*(stride for stride, _ in same))
        span, left = _Span(), dict[int, list[tuple[int, ...]]]()
        for stride, row in same:
            adds = [span.add(equation) for equation in _patches(row, stride, side, side)]
            if any(adds):
                left.setdefault(stride, []).append(row)
        kept += [Outputs(height, width, stride, tuple(rows)) for stride, rows in left.items()]
    return tuple(kept)


Equation = dict[int, int]  # column to coefficient


def _patches(row: Sequence[int], stride: int, height: int, width: int) -> Iterable[Equation]:
    """Yield one equation for each patch of a (height, width) grid of unknowns, numbered row by row."""
    for top in range(0, height, stride):
        for left in range(0, width, stride):
            yield {(top + i // stride) * width + left + i % stride: weight for i, weight in enumerate(row) if weight}


class _Span:
    """Span of equations over the rationals, in reduced echelon form: exact, unlike a rank in floating point."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[int, Fraction]] = {}  # by pivot

    def add(self, equation: Equation) -> bool:
        """Add an equation; tell whether it is independent of the others."""
        left = {column: Fraction(value) for column, value in equation.items()}
        for pivot in [column for column in left if column in self.rows]:
            _subtract(left, self.rows[pivot], left[pivot])
        if not left:
            return False
        pivot = next(iter(left))
        scale = left[pivot]
        left = {column: value / scale for column, value in left.items()}
        for row in self.rows.values():
            if pivot in row:
                _subtract(row, left, row[pivot])
        self.rows[pivot] = left
        return True


def _subtract(row: dict[int, Fraction], other: dict[int, Fraction], factor: Fraction) -> None:
    for column, value in other.items():
        if found := row.get(column, Fraction(0)) - factor * value:
            row[column] = found
        else:
            row.pop(column, None)


class Tile:
    """The linear system of outputs on one tile.

    Unknowns are the pixels of the grid that every size divides, then for each smaller size its means and their remainders.

    Raises:
        Undecided: it has more than MOST_UNKNOWNS unknowns.
    """

    def __init__(self, outputs: Sequence[Outputs]) -> None:
        sizes = sorted({found.size for found in outputs}, key=lambda size: (math.prod(size), size))
        grid = tuple(math.lcm(*(size[axis] for size in sizes)) for axis in (0, 1))
        factors = {size: (grid[0] // size[0], grid[1] // size[1]) for size in sizes}
        self.height, self.width = (math.lcm(*(found.stride * factors[found.size][axis] for found in outputs)) for axis in (0, 1))
        self.factor = factors[sizes[-1]]  # of the largest images
        num_pixels = self.height * self.width
        num_unknowns = num_pixels + sum(2 * num_pixels // math.prod(factor) for factor in factors.values() if factor != (1, 1))
        if num_unknowns > MOST_UNKNOWNS:
            raise Undecided(
                f"images of {', '.join(f'{height} x {width}' for height, width in sizes)} px share patches of {num_unknowns} unknowns, "
                f"and {MOST_UNKNOWNS} are the most that are looked at"
            )
        self.ranges = [(0, LARGEST_PIXEL)] * num_pixels
        self.equations: list[Equation] = []
        self.means: list[tuple[slice, slice, np.ndarray]] = []  # unknowns of means, of remainders, and the pixels of each mean
        for size in sizes:
            self.targets = np.arange(num_pixels) if factors[size] == (1, 1) else self._add_means(*factors[size])
            down, right = factors[size]
            for found in outputs:
                if found.size == size:
                    rows = (one for row in found.weights for one in _patches(row, found.stride, self.height // down, self.width // right))
                    self.equations += [{int(self.targets[column]): value for column, value in row.items()} for row in rows]

    def _add_means(self, down: int, right: int) -> np.ndarray:
        """Add the unknowns of a smaller size, and return those of its means."""
        pixels = np.arange(self.height * self.width).reshape(self.height // down, down, self.width // right, right)
        areas = pixels.swapaxes(1, 2).reshape(-1, down * right)
        first, count, area = len(self.ranges), len(areas), down * right
        self.ranges += [(-LARGEST_PIXEL, LARGEST_PIXEL)] * count + [(-(area // 2), (area - 1) // 2)] * count  # rounded half up
        self.means.append((slice(first, first + count), slice(first + count, first + 2 * count), areas))
        for i, places in enumerate(areas.tolist()):
            self.equations.append({first + i: area, first + count + i: 1} | dict.fromkeys(places, -1))
        return np.arange(first, first + count)

    def measure(self) -> Disclosure:
        """Measure shares on uniform tiles and on tiles of phantoms.

        Raises:
            Undecided: the work is not enough.
        """
        work, found, blocks = _Work(), {}, self._blocks()
        for kind, pixels in (("uniform", self._uniform()), ("phantom", self._phantoms())):
            values = self._values(pixels)
            counts = np.ones(values.shape, np.int64)
            for block, places in blocks.items():
                counted = block.num_values(np.concatenate([values[:, columns] for columns in places]), work)
                for columns, one in zip(places, np.split(counted, len(places)), strict=True):
                    counts[:, columns] = one
            found[kind] = counts[:, self.targets]
        uniform, phantom = (found[kind] == 1 for kind in ("uniform", "phantom"))
        return Disclosure(
            patches_unique_uniform=float(uniform.all(1).mean()),
            patches_unique_phantom=float(phantom.all(1).mean()),
            pixels_determined_uniform=float(uniform.mean()),
            pixels_determined_phantom=float(phantom.mean()),
            worst_pixel=float((found["uniform"] <= (1 if self.means else FEW_VALUES)).mean(0).max()),
            patch_height=self.height // self.factor[0],
            patch_width=self.width // self.factor[1],
        )

    def _blocks(self) -> dict[_Block, list[np.ndarray]]:
        """Split the system into parts that have no unknown in common; equal ones are one, with the unknowns of each."""
        span = _Span()
        for equation in self.equations:
            span.add(equation)
        part = list(range(len(self.ranges)))
        for row in span.rows.values():
            joined = {part[column] for column in row}
            part = [min(joined) if one in joined else one for one in part]
        blocks: dict[_Block, list[np.ndarray]] = {}
        for one in sorted(set(part)):
            columns = [column for column in range(len(part)) if part[column] == one]
            if np.isin(columns, self.targets).any():
                rows = {tuple(equation.get(column, 0) for column in columns) for equation in self.equations} - {(0,) * len(columns)}
                wanted = tuple(np.isin(columns, self.targets).tolist())
                block = _Block(tuple(sorted(rows)), tuple(self.ranges[column] for column in columns), wanted)
                blocks.setdefault(block, []).append(np.array(columns))
        return blocks

    def _values(self, pixels: np.ndarray) -> np.ndarray:
        """Return the values of all unknowns, (num_tiles, num_unknowns) int64: those of means as 0, since they may move freely."""
        values = np.zeros((len(pixels), len(self.ranges)), np.int64)
        values[:, : pixels.shape[1]] = pixels
        for _, remainders, areas in self.means:
            sums, area = pixels[:, areas].sum(2), areas.shape[1]
            values[:, remainders] = sums - (2 * sums + area) // (2 * area) * area
        return values

    @property
    def _shape(self) -> tuple[int, int, int]:
        height, width = self.height // self.factor[0], self.width // self.factor[1]
        return max(FEWEST_TILES, NUM_TILES // len(self.ranges) ** 2), height, width

    def _uniform(self) -> np.ndarray:
        """Return tiles whose pixels are uniform at the largest size, (num_tiles, num_pixels) int64."""
        return self._repeated(np.random.default_rng(SEED).integers(0, LARGEST_PIXEL + 1, self._shape))

    def _phantoms(self) -> np.ndarray:
        """Return tiles from anywhere on phantoms, (num_tiles, num_pixels) int64."""
        count, height, width = self._shape
        films = _films()
        highest = (NUM_FILMS, FILM_PX - height + 1, FILM_PX - width + 1)
        places = np.random.default_rng(SEED).integers(0, highest, (count, 3))
        return self._repeated(np.stack([films[i][top : top + height, left : left + width] for i, top, left in places]).astype(np.int64))

    def _repeated(self, tiles: np.ndarray) -> np.ndarray:
        """Bring tiles from the largest size to the grid."""
        return tiles.repeat(self.factor[0], 1).repeat(self.factor[1], 2).reshape(len(tiles), -1)


@cache
def _films() -> list[np.ndarray]:
    return [render(SEED, CLASS_NAMES[i % len(CLASS_NAMES)], i // len(CLASS_NAMES), 0, FILM_PX) for i in range(NUM_FILMS)]


@dataclass
class _Work:
    """Integer programs and branch-and-bound nodes that are left."""

    programs: int = MOST_PROGRAMS
    nodes: int = MOST_NODES


@dataclass(frozen=True)
class _Block:
    """Equations `rows` (num_equations, num_unknowns) over unknowns with `ranges`, of which some are `wanted`; no part stands apart."""

    rows: tuple[tuple[int, ...], ...]
    ranges: tuple[tuple[int, int], ...]
    wanted: tuple[bool, ...]

    @cached_property
    def matrix(self) -> np.ndarray:
        return np.array(self.rows, np.int64).reshape(len(self.rows), len(self.ranges))

    @cached_property
    def low(self) -> np.ndarray:
        return np.array(self.ranges, np.int64)[:, 0]

    @cached_property
    def high(self) -> np.ndarray:
        return np.array(self.ranges, np.int64)[:, 1]

    @cached_property
    def only(self) -> np.ndarray | None:
        """The shortest integer vector of a kernel of one dimension; zeros where there is no kernel; None where it has more dimensions."""
        span, unknowns = _Span(), range(len(self.ranges))
        for row in self.rows:
            span.add({column: value for column, value in enumerate(row) if value})
        free = [column for column in unknowns if column not in span.rows]
        if len(free) > 1:
            return None
        if not free:
            return np.zeros(len(unknowns), np.int64)
        vector = [-span.rows[column].get(free[0], Fraction(0)) if column in span.rows else Fraction(1) for column in unknowns]
        scale = math.lcm(*(value.denominator for value in vector))
        whole = [int(value * scale) for value in vector]
        divisor, longest = math.gcd(*whole), 2**20  # beyond every range: what moves by so much does not fit, and this fits into int64
        return np.array([max(-longest, min(value // divisor, longest)) for value in whole], np.int64)

    @cached_property
    def known(self) -> list[np.ndarray]:
        """Integer vectors of the kernel that were found so far."""
        return []

    def num_values(self, values: np.ndarray, work: _Work) -> np.ndarray:
        """Count the values that each wanted unknown can have, (num_patches, num_unknowns) int64, for values of the same shape.

        A count is of the values along one vector of the kernel: exact where the kernel has one dimension, else at most what there is. 1
        is exact.

        Raises:
            Undecided: the work is not enough.
        """
        patches, place = np.unique(values, axis=0, return_inverse=True)
        counts = np.ones(patches.shape, np.int64)
        if self.only is not None:
            self._count(counts, patches, self.only)
            return counts[place.reshape(-1)]
        movable = self._movable(work)
        for short in self.known:
            self._count(counts, patches, short)
        for i in range(len(patches)):
            for column in np.flatnonzero((counts[i] == 1) & movable & self.wanted):
                for sign in (1, -1):
                    if counts[i, column] == 1 and (vector := self._search(work, int(column), sign, patches[i])) is not None:
                        self.known.append(vector)
                        self._count(counts[i:], patches[i:], vector)
        return counts[place.reshape(-1)]

    def _fits(self, patches: np.ndarray, vector: np.ndarray) -> np.ndarray:
        moved = patches + vector
        return ((moved >= self.low) & (moved <= self.high)).all(1)

    def _count(self, counts: np.ndarray, patches: np.ndarray, vector: np.ndarray) -> None:
        """Raise counts to the number of steps that patches can go along a vector, both ways."""
        moved = np.flatnonzero(vector)
        if not len(moved):
            return
        length, patches = np.abs(vector[moved]), patches[:, moved]
        ways = np.stack([(self.high[moved] - patches) // length, (patches - self.low[moved]) // length])
        ahead = np.where(vector[moved] > 0, ways[0], ways[1]).min(1)
        back = np.where(vector[moved] > 0, ways[1], ways[0]).min(1)
        counts[:, moved] = np.maximum(counts[:, moved], (1 + ahead + back)[:, None])

    def _movable(self, work: _Work) -> np.ndarray:
        """Tell which unknowns some patch can move, and remember vectors that move them; short ones first, which fit most patches."""
        self.known.extend([] if self.known else self._collisions())
        movable = (np.array([*self.known, np.zeros(len(self.ranges))]) != 0).any(0)
        for column in np.flatnonzero(self.wanted):
            if not movable[column] and (vector := self._search(work, int(column), 1)) is not None:
                self.known.append(vector)
                movable |= vector != 0
        return movable

    def _collisions(self) -> np.ndarray:
        """Return short vectors of the kernel, which birthdays find: differences of vectors of -1, 0 and 1 that give the same outputs."""
        count, rng = len(self.ranges), np.random.default_rng(SEED)
        tried = rng.integers(-1, 2, (min(NUM_TRIED, 2**24 // count, 4**count), count), np.int8)  # 16 MiB at most
        tried[rng.random(tried.shape, np.float32) > 6 / count] = 0  # sparse ones have small outputs, which coincide sooner
        order = np.lexsort((outputs := tried @ self.matrix.T).T)
        same = (outputs[order[1:]] == outputs[order[:-1]]).all(1)
        vectors = (tried[order[1:]][same] - tried[order[:-1]][same]).astype(np.int64)
        vectors = vectors[vectors.any(1)]
        vectors = vectors[np.argsort(np.abs(vectors).sum(1), kind="stable")]
        kept = [np.flatnonzero(vectors[:, column])[:NUM_KEPT] for column in range(count)]  # the shortest that move each unknown
        return vectors[np.unique(np.concatenate(kept))]

    def _search(self, work: _Work, column: int, sign: int, patch: np.ndarray | None = None) -> np.ndarray | None:
        """Return a vector of the kernel that moves one unknown up (sign 1) or down (-1), and none out of its range; None: there is none.

        Without a patch: one that fits into the width of the ranges.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        width = self.high - self.low
        low, high = (-width, width.copy()) if patch is None else (self.low - patch, self.high - patch)
        low[column], high[column] = (max(low[column], 1), high[column]) if sign > 0 else (low[column], min(high[column], -1))
        if low[column] > high[column]:
            return None
        if not work.programs or not work.nodes:
            raise Undecided(f"{MOST_PROGRAMS} integer programs of {MOST_NODES} nodes together, the most that are solved, were not enough")
        work.programs -= 1
        found = milp(
            np.zeros(len(width)),
            integrality=np.ones(len(width)),
            bounds=Bounds(low, high),
            # An integer is 0 where it lies between -0.5 and 0.5; HiGHS 1.12 ends some programs with equations in "Solve error".
            constraints=LinearConstraint(self.matrix, -0.5, 0.5) if len(self.matrix) else (),
            options={"node_limit": work.nodes, "presolve": False},  # HiGHS 1.12's ends one in 500 small programs in "Solve error"
        )
        work.nodes = max(work.nodes - int(found.mip_node_count or 0), 0)
        if found.x is not None:
            vector = np.rint(found.x).astype(np.int64)
            if vector[column] and not (self.matrix @ vector).any() and (patch is None or self._fits(patch[None], vector)[0]):
                return vector
        if found.status == _INFEASIBLE:
            return None
        raise Undecided(f"an integer program of {len(width)} unknowns was not decided in {MOST_NODES} nodes")
