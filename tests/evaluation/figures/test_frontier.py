"""The frontier plot: what is on it, and that its labels can be read."""

import itertools

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from ppdl.errors import ConfigError
from ppdl.evaluation.figures.frontier import FrontierPoint, plot_frontier, plot_inversion


def sweep() -> list[FrontierPoint]:
    """Return an experiment with three strides and four noise levels, plain, and two that lie on one another."""
    points = [FrontierPoint("plain", 0.8458, 0.786, 0.9, 1.0, "plain"), FrontierPoint("deterministic", 0.8806, 0.811, 0.935, 0.98, "d")]
    points.append(FrontierPoint("opaque", 0.2537, 0.169, 0.343, 0.02, "opaque"))
    for i, stride in enumerate((2, 4, 8)):
        for j, noise in enumerate((0, 0.05, 0.1, 0.2)):
            accuracy = 0.9 - 0.05 * i - 0.03 * j
            name = f"stride {stride}, noise {noise}"
            points.append(FrontierPoint(name, accuracy, accuracy - 0.05, accuracy + 0.04, 0.85 - 0.2 * i - 0.1 * j, f"stride {stride}"))
    return points


def boxes(figure: Figure) -> dict[str, Bbox]:
    """Return the boxes of the labels as drawn, without the lines to their markers."""
    figure.draw_without_rendering()
    return {text.get_text(): Text.get_window_extent(text) for text in figure.axes[0].texts}


def test_every_run_is_labelled_and_no_label_covers_another():
    found = boxes(plot_frontier(sweep(), chance=0.25))
    assert set(found) == {point.label for point in sweep()} | {"chance"}
    for (a, first), (b, second) in itertools.combinations(found.items(), 2):
        assert not first.overlaps(second), (a, b)


def test_labels_of_equal_points_are_apart():
    found = boxes(plot_frontier([FrontierPoint(f"run {i}", 0.9, 0.85, 0.95, 0.5, "a") for i in range(8)]))
    for first, second in itertools.combinations(found.values(), 2):
        assert not first.overlaps(second)


def test_labels_stay_inside_the_figure():
    figure = plot_frontier(sweep(), chance=0.25)
    for label, box in boxes(figure).items():
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, label


def test_a_group_is_joined_in_the_order_given():
    points = [FrontierPoint(str(i), 0.5, 0.4, 0.6, ssim, "stride 2") for i, ssim in enumerate((0.7, 0.2, 0.4))]
    joined = [line for line in plot_frontier(points).axes[0].lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    assert [list(line.get_xdata()) for line in joined] == [[0.7, 0.2, 0.4]]


def test_each_group_has_a_look_of_its_own_and_those_that_labels_do_not_tell_are_in_the_legend():
    points = [FrontierPoint(f"run {i}, 64 px", 0.5, 0.4, 0.6, i / 20, f"run {i}, 64 px") for i in range(10)]
    points += [FrontierPoint(f"noise {n}", 0.5, 0.4, 0.6, 0.9, f"homomorphic, {px} px") for px in (32, 64) for n in (0, 4)]
    figure = plot_frontier(points, data="phantom, 1000 images, 201 of them for testing")
    looks = [(line.get_color(), line.get_marker()) for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert len(looks) == len(set(looks)) == 12
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["homomorphic, 32 px", "homomorphic, 64 px"]
    assert figure.axes[0].get_title("left").endswith("\nphantom, 1000 images, 201 of them for testing")


def test_labels_that_tell_their_group_need_no_legend():
    assert not plot_frontier([FrontierPoint("opaque", 0.5, 0.4, 0.6, 0.1, "opaque")]).legends


def test_no_points_are_refused():
    with pytest.raises(ConfigError, match="at least one point"):
        plot_frontier([])


def test_inversion_has_a_line_for_each_stride():
    curve = [{"stride": s, "noise": n, "psnr": 20.0, "ssim": 0.9 - s / 20 - n} for s in (2, 4) for n in (0.0, 0.1, 0.2)]
    axes = plot_inversion(curve).axes[0]
    assert [line.get_label() for line in axes.lines] == ["stride 2", "stride 4"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.0, 0.1, 0.2]] * 2
    assert axes.get_xlabel() == "noise"


def test_inversion_without_noise_runs_over_stride():
    axes = plot_inversion([{"stride": s, "noise": 0.0, "psnr": 20.0, "ssim": 1 / s} for s in (4, 2)]).axes[0]
    assert axes.get_xlabel() == "stride" and list(axes.lines[0].get_ydata()) == [0.5, 0.25]


def test_inversion_needs_ssim():
    with pytest.raises(ConfigError, match="ssim"):
        plot_inversion([{"stride": 2}])
