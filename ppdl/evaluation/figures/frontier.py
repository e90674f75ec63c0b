"""What privacy costs in accuracy: every run against the best attacker, and what a revealed view gives back over stride and noise."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
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

    Points of one group share a colour and a marker, which no other group has, and are joined in the order given, such as noise levels of
    one stride.
    """

    label: str
    accuracy: float
    low: float
    high: float
    ssim: float
    group: str

    @property
    def is_named(self) -> bool:
        """Whether the label alone tells the group."""
        return self.group in self.label

    @property
    def name(self) -> str:
        return self.label if self.is_named else f"{self.group}, {self.label}"


def plot_frontier(points: Sequence[FrontierPoint], *, data: str = "", chance: float | None = None) -> Figure:
    """Draw accuracy over the best attacker's SSIM, one labelled point a run; a legend has the groups that labels do not tell.

    Args:
        points: at least one.
        data: that all runs were tested on, in words, for the title; empty where the page around says it.
        chance: accuracy of guessing, drawn as a line.
    """
    if not points:
        raise ConfigError("the frontier needs at least one point, got none")
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.subplots()
    for number, (group, members) in enumerate(_groups(points).items()):
        _group(axes, members, *_look(number), group)
    bottom = 100 * min([point.low for point in points] + ([] if chance is None else [chance]))
    top = 100 * max(point.high for point in points)
    pad = max(4.0, 0.1 * (top - bottom))
    axes.set(xlim=(min(_LEFT, min(point.ssim for point in points) - 0.05), _RIGHT), ylim=(bottom - pad, top + pad))
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set(xlabel="SSIM of the best attacker's images   (1: the originals)", ylabel="accuracy on the test images, %")
    axes.set_title(f"Upper left: a network learns, and little is shown\n{data}".rstrip(), loc="left", fontsize=TITLE)
    if chance is not None:
        axes.hlines(100 * chance, *axes.get_xlim(), color=GRAY, lw=0.9, ls=":", zorder=0)
        below: dict[str, Any] = {"xytext": (-2, -3), "textcoords": "offset points", "ha": "right", "va": "top"}
        axes.annotate("chance", (1, 100 * chance), xycoords=("axes fraction", "data"), color=GRAY, fontsize=LABEL, **below)
    _frame(axes)
    if any(not point.is_named for point in points):
        handles = [line for line in axes.lines if line.get_label() in {point.group for point in points if not point.is_named}]
        figure.legend(handles=handles, frameon=False, loc="outside lower left", ncols=2, fontsize=LABEL)
    _label(figure, axes, points)
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
        color, marker = _look(number)
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


def _look(number: int) -> tuple[str, str]:
    """Return colour and marker of a group: the first seven differ in both, and each of 49 in one of them at least."""
    return PALETTE[number % len(PALETTE)], MARKERS[(number + number // len(PALETTE)) % len(MARKERS)]


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


def _label(figure: Figure, axes: Axes, points: Sequence[FrontierPoint]) -> None:
    """Write the labels where they cover neither one another nor a marker nor, if it can be, a whisker or a line."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the places below are for the axes as they are now
    scale, inside, to_px = figure.dpi / 72, axes.get_window_extent(), axes.transData.transform
    whiskers = [segment for found in axes.collections if isinstance(found, LineCollection) for segment in found.get_segments()]
    drawn = [*whiskers, *(line.get_xydata() for line in axes.lines)]
    thin = np.concatenate([np.linspace(a, b, 25) for line in drawn for a, b in itertools.pairwise(to_px(line))])  # points on lines, (n, 2)
    markers = to_px([(point.ssim, 100 * point.accuracy) for point in points])
    taken = [text.get_window_extent() for text in axes.texts] + [Bbox([at - 5 * scale, at + 5 * scale]) for at in markers]

    def cost(box: Bbox, distance: float) -> float:
        outside = not (inside.contains(*box.min) and inside.contains(*box.max))
        near = box.padded(3)  # a label beside another's marker would be taken for its label
        crossed = ((box.min < thin) & (thin < box.max)).all(axis=1).sum()
        return 1e5 * outside + 1e4 * sum(near.overlaps(other) for other in taken) + 20 * crossed + distance

    groups = list(_groups(points))
    for point, at in sorted(zip(points, markers, strict=True), key=lambda pair: (-pair[0].accuracy, pair[0].ssim)):
        line = {"arrowstyle": "-", "color": _look(groups.index(point.group))[0], "lw": 0.6, "alpha": 0.7, "shrinkB": 4}
        place: dict[str, Any] = {"xytext": (0, 0), "textcoords": "offset points", "ha": "center", "va": "center", "arrowprops": line}
        text = axes.annotate(point.label, (point.ssim, 100 * point.accuracy), color=TEXT, fontsize=LABEL, annotation_clip=False, **place)
        half = np.array(Text.get_window_extent(text).size) / 2
        offsets = {d: [np.array(way) * (half + d * scale / np.hypot(*way)) for way in _DIRECTIONS] for d in _DISTANCES}
        places = [(d, offset, Bbox([at + offset - half, at + offset + half])) for d, found in offsets.items() for offset in found]
        distance, offset, box = min(places, key=lambda candidate: cost(candidate[2], candidate[0]))
        taken.append(box.padded(1.5 * scale))
        text.set_position(offset / scale)
        if distance <= _DISTANCES[1] and text.arrow_patch is not None:
            text.arrow_patch.set_visible(False)
