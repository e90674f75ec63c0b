"""What a sweep found: importance with its caveats, and the figure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ppdl.errors import ConfigError
from ppdl.evaluation.figures.sweep import DIVERGED, DONE, PRUNED, Trial, importance, plot_sweep, varying


def trials(num: int, *, seed: int = 3, matters: bool = True) -> list[Trial]:
    """Return trials whose objective is a parabola in the logarithm of `training.learning_rate`, or noise."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(num):
        rate, decay = 10 ** rng.uniform(-3, -1), 10 ** rng.uniform(-5, -1)
        objective = 0.3 + 0.5 * (math.log10(rate) + 2) ** 2 + rng.normal(0, 0.03) if matters else rng.normal()
        values = {
            "training.learning_rate": str(rate),
            "training.weight_decay": str(decay),
            "model.weights": ("null", "imagenet")[number % 2],
        }
        found.append(Trial(values, objective, PRUNED if number % 7 == 6 else DONE))
    return found


def test_only_what_differs_varies():
    assert varying([{"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "1", "b": "2", "c": "x"}]) == ["b", "c"]
    assert varying([{"a": "1"}]) == []


def test_the_parameter_that_matters_is_found():
    known = [*trials(30), Trial(trials(1)[0].values, None, "running")]
    found = importance(known)
    assert next(iter(found.falls)) == "training.learning_rate" and found.falls.keys() == trials(1)[0].values.keys()
    assert list(found.falls.values()) == sorted(found.falls.values(), reverse=True)
    assert found.r2 > 0.3 and found.caveat == ""


def test_a_diverged_trial_is_the_worst_and_does_not_drown_the_others():
    known = trials(30)
    diverged = [
        Trial(t.values | {"training.learning_rate": str(r)}, math.inf, DIVERGED) for t, r in zip(trials(2), (90.0, 99.0), strict=True)
    ]
    found = importance(known + diverged)
    assert next(iter(found.falls)) == "training.learning_rate" and found.caveat == ""


def test_few_trials_and_noise_are_not_to_be_read():
    assert importance(trials(12)).caveat == "12 trials are too few, 20 are the least"
    assert "hardly predicts trials that it has not seen" in importance(trials(30, matters=False)).caveat
    assert importance(trials(1)) is None
    assert importance([Trial({}, 1.0, DONE)] * 30) is None


def test_the_figure_shows_each_parameter_and_every_state():
    known = [*trials(12), Trial(trials(1)[0].values, math.inf, DIVERGED), Trial(trials(1)[0].values, None, "failed")]
    figure = plot_sweep(known, importance(known), title="multirun/x", objective="loss")
    panels = {axes.get_xlabel(): axes for axes in figure.axes if axes.axison}
    assert panels.keys() == {"learning_rate", "weight_decay", "weights", "importance (fall of R²)"}
    rate, decay, weights = (panels[name] for name in ("learning_rate", "weight_decay", "weights"))
    assert (rate.get_xscale(), decay.get_xscale(), weights.get_xscale()) == ("log", "log", "linear")
    assert [text.get_text() for text in weights.get_xticklabels()] == ["imagenet", "null"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [DONE, PRUNED, DIVERGED, "best"]
    drawn = {points.get_label(): points.get_offsets() for points in rate.collections}
    assert {state: len(drawn[state]) for state in (DONE, PRUNED, DIVERGED, "best")} == {DONE: 11, PRUNED: 1, DIVERGED: 1, "best": 1}
    assert drawn["best"][0, 1] == min(t.objective for t in known if t.objective is not None)
    assert drawn[DIVERGED][0, 1] > max(drawn[DONE][:, 1].max(), drawn[PRUNED][:, 1].max())
    assert "not to be read" in panels["importance (fall of R²)"].get_title()


def test_without_importance_the_parameters_are_drawn_all_the_same():
    figure = plot_sweep(trials(3), None, title="x", objective="loss")
    assert [axes.get_xlabel() for axes in figure.axes if axes.axison] == ["weights", "learning_rate", "weight_decay"]


@pytest.mark.parametrize("known", [[], [Trial({"a": "1"}, math.inf, DIVERGED)], [Trial({}, 1.0, DONE)]])
def test_nothing_to_draw_is_refused(known):
    with pytest.raises(ConfigError, match="a figure of a sweep needs"):
        plot_sweep(known, None, title="x", objective="loss")
