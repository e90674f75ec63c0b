"""`ppdl sweep summary`: trials best first, what they differ in, and what mattered of it."""

from __future__ import annotations

import json
import math
import shutil
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ppdl.cli import main
from ppdl.cli.sweep.summary import headings, trials_of
from ppdl.records.trial import open_study
from ppdl.tracking.query import StoredRun
from ppdl.tracking.runs.sweep import OBJECTIVE

FOLDER = "multirun/2026-01-31/12-00-00"


def run(objective=0.5, rate="0.01", *, name="plain", status="FINISHED", pruned=False, failure="", **params):
    metrics = {} if objective is None else {OBJECTIVE: objective, "fit/best_val_accuracy": 0.75, "fit/num_epochs": 32.0}
    tags = {"job": "0", "failure": failure} | ({"pruned": "true"} if pruned else {})
    return StoredRun("", name, status, 60.0, {"training.learning_rate": rate, "seed": "7", **params}, metrics, tags, "")


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


def test_the_table_and_what_to_do_with_the_best(swept):
    result = CliRunner().invoke(main, ["sweep", "summary"])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if line.strip() and line.split()[0].isdigit()]
    assert [row[:3] for row in rows] == [["1", "done", "0.400"], ["0", "done", "0.900"], ["2", "pruned", "0.800"], ["3", "diverged", "inf"]]
    assert rows[0][3:] == ["87.5", "32", "61", "0.0123"]
    assert f"ppdl sweep test {FOLDER}\n" in result.output and f"ppdl sweep apply {FOLDER}\n" in result.output
    assert "by Optuna" not in result.output


def test_no_two_columns_are_called_the_same():
    assert headings(["training.epochs", "training.learning_rate"]) == ["training.epochs", "learning_\nrate"]
    assert headings(["seed", "split.seed", "run"]) == ["seed", "split.seed", "run"]


def test_epochs_that_are_set_stand_beside_those_that_were_run(swept):
    for number, found in enumerate(swept.client.search_runs([swept.experiment_id])):
        swept.client.log_param(found.info.run_id, "training.epochs", 40 + number)
    words = CliRunner().invoke(main, ["sweep", "summary"]).output.split()
    assert words.count("epochs") == 1 and words.count("training.epochs") == 1


def test_trials_on_other_data_than_the_newest_are_left_out_and_counted(swept):
    for found in swept.client.search_runs([swept.experiment_id]):
        swept.client.set_tag(found.info.run_id, "data_sha256", "ab" if found.data.tags["job"] == "1" else "cd")
    result = CliRunner().invoke(main, ["sweep", "summary", "--json"])
    assert [trial["job"] for trial in json.loads(result.stdout)["trials"]] == [0, 2, 3]  # 1 had the lowest log loss
    assert f"{FOLDER} has trials of more than one data set" in result.stderr and "1 run of other images or another split" in result.stderr


def test_how_much_each_value_mattered_is_said_by_optuna(swept, tmp_path):
    optuna = pytest.importorskip("optuna")
    study = open_study(tmp_path / FOLDER)
    space = {name: optuna.distributions.FloatDistribution(0, 1) for name in ("model.dropout", "training.learning_rate")}
    for i in range(30):
        study.enqueue_trial({"training.learning_rate": i / 30, "model.dropout": 7 * i % 30 / 30})
        study.tell(study.ask(space), i / 30)
    found = json.loads(CliRunner().invoke(main, ["sweep", "summary", "--json"]).stdout)["importance"]
    assert list(found) == ["training.learning_rate", "model.dropout"] and found["training.learning_rate"] > 0.6
    assert "by Optuna" in (output := CliRunner().invoke(main, ["sweep", "summary"]).output)
    assert f"training.learning_rate {found['training.learning_rate']:.0%}, model.dropout" in output


def test_json_alone(swept, tmp_path):
    shutil.rmtree(tmp_path / FOLDER)  # elsewhere than the sweep was run
    result = CliRunner().invoke(main, ["sweep", "summary", "--json", FOLDER])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["importance"] == {} and found["sweep"] == FOLDER and [trial["job"] for trial in found["trials"]] == [1, 0, 2, 3]
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


def test_an_unknown_sweep_names_those_that_there_are(swept):
    result = CliRunner().invoke(main, ["sweep", "summary", "multirun/nowhere"])
    assert result.exit_code == 1 and f"has no run of the sweep multirun/nowhere; there are {FOLDER}" in result.output


def test_without_a_trial_that_came_to_its_end_there_is_no_best(swept):
    for run in swept.client.search_runs([swept.experiment_id]):
        swept.client.set_tag(run.info.run_id, "pruned", "true")
    for command in ("test", "apply"):
        result = CliRunner().invoke(main, ["sweep", command])
        assert result.exit_code == 1 and f"the sweep {FOLDER} has no finished trial: see `ppdl sweep summary {FOLDER}`" in result.output
    assert "ppdl sweep apply" not in CliRunner().invoke(main, ["sweep", "summary"]).output


def test_a_trial_whose_model_is_elsewhere_cannot_be_tested(swept):
    result = CliRunner().invoke(main, ["sweep", "test"])
    assert result.exit_code == 1 and f"{FOLDER} has no model of trial 1" in result.output


@pytest.mark.parametrize("moved", ["default", "trial 1"])
def test_what_was_trained_on_another_split_is_not_tested(swept, built, tmp_path, monkeypatch, moved):
    places = {"default": tmp_path / "models/plain/pixels", "trial 1": tmp_path / FOLDER / "1/models/plain/pixels"}
    monkeypatch.setattr("ppdl.tracking.runs.sweep.model_folder", lambda folder, run: places["trial 1"])
    records = {
        place / "run.json": SimpleNamespace(tags={"data_sha256": "ab" if who == moved else built}, metrics={})
        for who, place in places.items()
    }
    monkeypatch.setattr("ppdl.tracking.runs.record.read_record", records.get)
    result = CliRunner().invoke(main, ["sweep", "test"])
    assert result.exit_code == 1 and f"{places[moved]} ({moved}) was trained on other images or another split" in result.output


def test_no_sweep_at_all_says_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.setattr("ppdl.config.checkout", lambda: tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = CliRunner().invoke(main, ["sweep", "summary"])
    assert result.exit_code == 1 and "-m +sweep=optuna" in result.output
