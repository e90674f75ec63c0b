"""A training as a trial of an Optuna study: what it reports, when it is stopped, what the study keeps."""

from __future__ import annotations

import math

import pytest

from ppdl.records.trial import STUDY, Trial, open_study

optuna = pytest.importorskip("optuna")
SPACE = {"rate": optuna.distributions.FloatDistribution(0.0, 1.0)}


@pytest.fixture
def study(tmp_path):
    """A study with one trial that came to its end by the losses 1.0, 0.5, 0.25, and one under way."""
    study = open_study(tmp_path)
    trial = Trial(tmp_path, study.ask(SPACE).number, None)
    assert not any(trial.stops(epoch, 0.5**epoch) for epoch in range(3))
    trial.end(0.25)
    study.ask(SPACE)
    return study


def test_a_trial_tells_its_study_what_it_came_to(study, tmp_path):
    assert (tmp_path / STUDY).is_file()
    first, second = study.trials
    assert (first.state.name, first.value, first.intermediate_values) == ("COMPLETE", 0.25, {0: 1.0, 1: 0.5, 2: 0.25})
    assert second.state.name == "RUNNING"


def test_the_pruner_stops_a_hopeless_trial_and_the_study_keeps_it_as_pruned(study, tmp_path):
    trial = Trial(tmp_path, 1, optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=1))
    assert [trial.stops(0, 3.0), trial.pruned] == [False, False]
    assert [trial.stops(1, 0.75), trial.pruned] == [True, True]
    trial.end(0.75)
    assert study.trials[1].state.name == "PRUNED" and study.best_trial.number == 0


def test_without_a_pruner_none_is_stopped(study, tmp_path):
    assert not any(Trial(tmp_path, 1, None).stops(epoch, 100.0) for epoch in range(20))


@pytest.mark.parametrize("objective", [math.inf, math.nan])
def test_a_training_that_diverged_is_infinitely_bad(study, tmp_path, objective):
    Trial(tmp_path, 1, None).end(objective)
    assert (study.trials[1].state.name, study.trials[1].value) == ("COMPLETE", math.inf)
