"""What privacy costs in accuracy: every run against the best attacker, and what a revealed view gives back over stride and noise."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from ppdl.errors import ConfigError
from ppdl.evaluation.figures.style import GRAY, PALETTE, TITLE

MARKERS = "osD^vPX"
LABEL = 8  # points
TEXT = "#333333"  # orange and light blue would be too faint for small letters
_LEFT, _RIGHT = -0.06, 1.17  # of the axis of SSIM: beside plain, at 1, is room for its label
_DIRECTIONS = ((1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1))
_DISTANCES = (8, 16, 28, 42, 60)  # points between a marker and its label; farther labels get a line to it
_MEASURES = ("psnr", "ssim", "pinv_", "method")  # of a curve's entry; what else it says is a setting


@dataclass(frozen=True)
class FrontierPoint:
    """Hold one run: accuracy with its 95 % interval as shares, SSIM of the best attacker's images, and the group it is drawn with.

    Points of one group share a colour and a marker and are joined in the order given, such as noise levels of one stride.
    """

    label: str
    accuracy: float
    low: float
    high: float
    ssim: float
    group: str


def plot_frontier(points: Sequence[FrontierPoint], *, chance: float | None = None) -> Figure:
    """Draw accuracy over the best attacker's SSIM, one labelled point a run.

    Args:
        points: at least one.
        chance: accuracy of guessing, drawn as a line.
    """
    if not points:
        raise ConfigError("the frontier needs at least one point, got none")
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.subplots()
    for number, (group, members) in enumerate(_groups(points).items()):
        _group(axes, members, PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)], group)
    bottom = 100 * min([point.low for point in points] + ([] if chance is None else [chance]))
    top = 100 * max(point.high for point in points)
    pad = max(4.0, 0.1 * (top - bottom))
    axes.set(xlim=(min(_LEFT, min(point.ssim for point in points) - 0.05), _RIGHT), ylim=(bottom - pad, top + pad))
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set(xlabel="SSIM of the best attacker's images   (1: the originals)", ylabel="accuracy on the test images, %")
    axes.set_title("Upper left: a network learns, and little is shown", loc="left", fontsize=TITLE)
    if chance is not None:
        axes.axhline(100 * chance, color=GRAY, lw=0.9, ls=":", zorder=0)
        below: dict[str, Any] = {"xytext": (-2, -3), "textcoords": "offset points", "ha": "right", "va": "top"}
        axes.annotate("chance", (1, 100 * chance), xycoords=("axes fraction", "data"), color=GRAY, fontsize=LABEL, **below)
    _frame(axes)
    _label(figure, axes, points, chance)
    return figure


def plot_inversion(curve: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw SSIM over noise (over stride, where the noise is always the same), a line for each of the other settings.

    Args:
        curve: settings such as stride, noise, channels, with psnr and ssim, as the attack `inversion` reports them.
    """
    if not curve or any("ssim" not in entry for entry in curve):
        raise ConfigError(f"each entry of the curve needs an ssim, and there must be one at least, got {list(curve)!r}")
    settings = [key for key in curve[0] if not key.startswith(_MEASURES) and len({str(entry.get(key)) for entry in curve}) > 1]
    x = next((key for key in ("noise", "stride") if key in settings), next(iter(settings), "noise"))
    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    axes = figure.subplots()
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for entry in curve:
        lines.setdefault(", ".join(_words(key, entry.get(key)) for key in settings if key != x), []).append(entry)
    for number, (name, entries) in enumerate(lines.items()):
        ordered = sorted(entries, key=lambda entry: entry.get(x, 0))
        color, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
        at = [entry.get(x, 0) for entry in ordered]
        axes.plot(at, [entry["ssim"] for entry in ordered], color=color, marker=marker, ms=5, label=name or None, clip_on=False)
    axes.set(xlabel=x, ylabel="SSIM of the rebuilt images", ylim=(min(0.0, *(entry["ssim"] for entry in curve), 0.0), 1.0))
    axes.set_xticks(sorted({entry.get(x, 0) for entry in curve}))
    axes.set_title("Lower: less is shown", loc="left", fontsize=TITLE)
    _frame(axes)
    if any(lines):
        figure.legend(frameon=False, loc="outside right center", fontsize=LABEL)
    return figure


def _groups(points: Sequence[FrontierPoint]) -> dict[str, list[FrontierPoint]]:
    groups: dict[str, list[FrontierPoint]] = {}
    for point in points:
        groups.setdefault(point.group, []).append(point)
    return groups


def _words(name: str, value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{name} {value}"


def _group(axes: Axes, members: list[FrontierPoint], color: str, marker: str, group: str) -> None:
    x, y = [point.ssim for point in members], [100 * point.accuracy for point in members]
    if len(members) > 1:
        axes.plot(x, y, color=color, lw=1.2, alpha=0.5, zorder=1)
    axes.vlines(x, [100 * point.low for point in members], [100 * point.high for point in members], color=color, lw=1.6, alpha=0.75)
    axes.plot(x, y, ls="", marker=marker, color=color, ms=6.5, mec="white", mew=0.8, zorder=3, label=group)


def _frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)


def _label(figure: Figure, axes: Axes, points: Sequence[FrontierPoint], chance: float | None) -> None:
    """Write the labels where they cover neither one another nor a marker nor, if it can be, a whisker or a line."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the places below are for the axes as they are now
    scale = figure.dpi / 72
    groups = list(_groups(points))
    taken = [_square(axes, p, 5 * scale) for p in points]
    taken += [text.get_window_extent() for text in axes.texts]
    thin = [_strip(axes, (p.ssim, 100 * p.low), (p.ssim, 100 * p.high)) for p in points]
    thin += [] if chance is None else [_strip(axes, (axes.get_xlim()[0], 100 * chance), (_RIGHT, 100 * chance))]
    for members in _groups(points).values():
        thin += list(itertools.chain.from_iterable(_pieces(axes, a, b) for a, b in itertools.pairwise(members)))
    inside = axes.get_window_extent()
    for point in sorted(points, key=lambda p: (-p.accuracy, p.ssim)):
        color = PALETTE[groups.index(point.group) % len(PALETTE)]
        found = min(_places(axes, point, color), key=lambda place: _cost(place, taken, thin, inside))
        taken.append(found[0].padded(1.5 * scale))
        _write(axes, point, color, found[1], found[2], line=found[2] > _DISTANCES[1])


def _square(axes: Axes, point: FrontierPoint, half: float) -> Bbox:
    """Return the box of a point's marker, in pixels."""
    x, y = axes.transData.transform((point.ssim, 100 * point.accuracy))
    return Bbox.from_bounds(x - half, y - half, 2 * half, 2 * half)


def _places(axes: Axes, point: FrontierPoint, color: str) -> list[tuple[Bbox, tuple[int, int], float]]:
    places: list[tuple[Bbox, tuple[int, int], float]] = []
    for distance, direction in itertools.product(_DISTANCES, _DIRECTIONS):
        text = _write(axes, point, color, direction, distance, line=False)  # a line would count as a part of its box
        places.append((text.get_window_extent(), direction, distance))
        text.remove()
    return places


def _cost(place: tuple[Bbox, tuple[int, int], float], taken: list[Bbox], thin: list[Bbox], inside: Bbox) -> float:
    box, _, distance = place
    outside = not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1)
    near = box.padded(3)  # a label beside another's marker would be taken for its label
    return 1e4 * sum(near.overlaps(other) for other in taken) + 1e5 * outside + 40 * sum(box.overlaps(other) for other in thin) + distance


def _write(axes: Axes, point: FrontierPoint, color: str, direction: tuple[int, int], distance: float, *, line: bool) -> Annotation:
    x, y = direction
    align: dict[str, Any] = {"ha": ("center", "left", "right")[x], "va": ("center_baseline", "bottom", "top")[y]}
    arrow = {"arrowstyle": "-", "color": color, "lw": 0.6, "alpha": 0.7, "shrinkA": 0, "shrinkB": 4} if line else None
    step = distance / max(1, abs(x) + abs(y)) ** 0.5
    offset: dict[str, Any] = {"xytext": (x * step, y * step), "textcoords": "offset points", "arrowprops": arrow, "annotation_clip": False}
    return axes.annotate(point.label, (point.ssim, 100 * point.accuracy), color=TEXT, fontsize=LABEL, **align, **offset)


def _strip(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> Bbox:
    (x0, y0), (x1, y1) = axes.transData.transform([start, end])
    return Bbox([[min(x0, x1) - 1, min(y0, y1) - 1], [max(x0, x1) + 1, max(y0, y1) + 1]])


def _pieces(axes: Axes, a: FrontierPoint, b: FrontierPoint, num_pieces: int = 12) -> list[Bbox]:
    """Return small boxes along a line between two points."""
    steps = [i / num_pieces for i in range(num_pieces + 1)]
    places = [(a.ssim + t * (b.ssim - a.ssim), 100 * (a.accuracy + t * (b.accuracy - a.accuracy))) for t in steps]
    return [_strip(axes, start, end) for start, end in itertools.pairwise(places)]
