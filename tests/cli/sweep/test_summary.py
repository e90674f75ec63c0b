"""`ppdl sweep summary`: trials best first, what they differ in, and the command that takes the best one over."""

from __future__ import annotations

import json
import math

import pytest
from click.testing import CliRunner

from ppdl.cli import main
from ppdl.cli.sweep.summary import trials_of
from ppdl.tracking.query import StoredRun
from ppdl.tracking.runs.sweep import OBJECTIVE
from ppdl.tracking.store import Point, now_ms, open_store

FOLDER = "multirun/2026-01-31/12-00-00"


def run(objective=0.5, rate="0.01", *, name="plain", status="FINISHED", pruned=False, failure="", **params):
    metrics = {} if objective is None else {OBJECTIVE: objective, "fit/best_val_accuracy": 0.75, "fit/num_epochs": 32.0}
    tags = {"job": "0", "failure": failure} | ({"pruned": "true"} if pruned else {})
    return StoredRun("", name, status, 60.0, {"training.learning_rate": rate, "seed": "7", **params}, metrics, tags)


def test_states_and_objectives():
    runs = [run(), run(pruned=True, rate="0.1"), run(None, status="FAILED", failure="DivergedError: nan"), run(None, status="KILLED")]
    assert [(trial.state, trial.objective) for trial in trials_of(runs)] == [
        ("done", 0.5),
        ("pruned", 0.5),
        ("diverged", math.inf),
        ("killed", None),
    ]
    assert trials_of(runs)[0].values == {"training.learning_rate": "0.01"}


def test_runs_of_several_names_are_told_apart_by_name():
    runs = [run(name="opaque", branch="opaque"), run(name="deterministic", branch="deterministic")]
    assert [trial.values for trial in trials_of(runs)] == [{"run": "opaque"}, {"run": "deterministic"}]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr("ppdl.config.checkout", lambda: tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = open_store(tmp_path, "ppdl")
    trials = [
        (0.9, "0.001", {}),
        (0.4, "0.0123456789", {}),
        (0.8, "0.1", {"pruned": "true"}),
        (None, "50.0", {"failure": "DivergedError: x"}),
    ]
    for job, (objective, rate, tags) in enumerate(trials):
        tags |= {"sweep": FOLDER, "stage": "stages.train_plain", "job": str(job)}
        made = store.client.create_run(store.experiment_id, start_time=job + 1, run_name="plain", tags=tags)
        for name, value in {"training.learning_rate": rate, "model.dropout": "0.2"}.items():
            store.client.log_param(made.info.run_id, name, value)
        if objective is not None:
            metrics = {OBJECTIVE: objective, "fit/best_val_accuracy": 0.875, "fit/num_epochs": 32, "fit/seconds": 61.0}
            store.log_points(made.info.run_id, [Point(key, value, now_ms(), 0) for key, value in metrics.items()])
        store.client.set_terminated(made.info.run_id, "FINISHED" if objective is not None else "FAILED")
    (tmp_path / FOLDER).mkdir(parents=True)
    return store


def test_the_table_and_the_command_to_take_the_best_over(store):
    result = CliRunner().invoke(main, ["sweep", "summary"])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if line.strip() and line.split()[0].isdigit()]
    assert [row[:3] for row in rows] == [["1", "done", "0.400"], ["2", "pruned", "0.800"], ["0", "done", "0.900"], ["3", "diverged", "inf"]]
    assert rows[0][3:] == ["87.5", "32", "61", "0.0123"]
    assert "dvc exp run -S training.learning_rate=0.0123456789\n" in result.output


def test_the_command_repeats_all_that_the_trial_was_given(store):
    given = ["dataset=folder", "'dataset.root=/data/my x-rays'", "training.learning_rate=0.0123456789"]
    of_the_sweep = ["+sweep=[optuna,joblib]", "hydra.sweep.dir=x", "branch=opaque", "pruning=null"]
    for run in store.client.search_runs([store.experiment_id]):
        store.client.set_tag(run.info.run_id, "overrides", " ".join([*given, *of_the_sweep]))
    output = CliRunner().invoke(main, ["sweep", "summary"]).output
    assert f"dvc exp run {' '.join(f'-S {text}' for text in given)}\n" in output


def test_json_alone(store):
    result = CliRunner().invoke(main, ["sweep", "summary", "--json", FOLDER])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["sweep"] == FOLDER and [trial["job"] for trial in found["trials"]] == [1, 2, 0, 3]
    assert found["trials"][0] == {
        "job": 1,
        "run": "plain",
        "state": "done",
        "val_log_loss": 0.4,
        "val_accuracy": 0.875,
        "num_epochs": 32,
        "seconds": 61.0,
        "params": {"training.learning_rate": "0.0123456789"},
    }
    assert found["trials"][3]["val_log_loss"] is None


def test_an_unknown_sweep_names_those_that_there_are(store):
    result = CliRunner().invoke(main, ["sweep", "summary", "multirun/nowhere"])
    assert result.exit_code == 1 and f"has no run of the sweep multirun/nowhere; there are {FOLDER}" in result.output


def test_a_trial_whose_model_is_elsewhere_cannot_be_tested(store):
    result = CliRunner().invoke(main, ["sweep", "test"])
    assert result.exit_code == 1 and f"{FOLDER} has no model of trial 1" in result.output


def test_no_sweep_at_all_says_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.setattr("ppdl.config.checkout", lambda: tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = CliRunner().invoke(main, ["sweep", "summary"])
    assert result.exit_code == 1 and "-m +sweep=optuna" in result.output
