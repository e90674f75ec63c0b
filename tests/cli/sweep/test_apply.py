"""`ppdl sweep apply`: the best trial's values, drawn or given, are kept, and what they change is said."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from ppdl.cli import main
from ppdl.config import place
from ppdl.tracking.runs.sweep import OBJECTIVE


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of conf/ and params.yaml, for choices to be kept in."""
    shutil.copytree(place.CONF, tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copy(place.PARAMS, tmp_path / "params.yaml")
    monkeypatch.setattr("ppdl.config.place.CONF", tmp_path / "conf")
    monkeypatch.setattr("ppdl.config.place.PARAMS", tmp_path / "params.yaml")
    return tmp_path / "conf"


def give(store, *overrides):
    for run in store.client.search_runs([store.experiment_id]):
        store.client.set_tag(run.info.run_id, "overrides", " ".join(overrides))


def test_all_that_the_trial_was_given_is_kept_and_what_changes_is_said(swept, conf):
    of_the_sweep = ["+sweep=[optuna,joblib]", "hydra.sweep.dir=x", "branch=opaque"]
    give(
        swept,
        "dataset=folder",
        "'dataset.root=/data/my x-rays'",
        "training.learning_rate=0.0123456789",
        "~protections.opaque",
        *of_the_sweep,
    )
    result = CliRunner().invoke(main, ["sweep", "apply"])
    assert result.exit_code == 0, result.output
    assert "trial 1 of multirun/2026-01-31/12-00-00, validation log loss 0.4\n" in result.output
    assert "  params.yaml: training.learning_rate: 0.01 -> 0.0123456789\n" in result.output
    assert "  params.yaml: dataset.root: None -> '/data/my x-rays'\n" in result.output
    params = yaml.safe_load(place.PARAMS.read_text())
    assert params["dataset"]["root"] == "/data/my x-rays" and params["training"]["learning_rate"] == 0.0123456789
    assert "opaque" not in params["protections"] and params["branch"] is None
    assert yaml.safe_load((conf / "local/default.yaml").read_text())["training"] == {"learning_rate": 0.0123456789}


@pytest.mark.parametrize(("data", "said"), [("ab", "what is built has 0.236"), ("cd", "what is built is of other images or another split")])
def test_what_is_built_stands_beside_what_is_taken_over(swept, conf, tmp_path, monkeypatch, data, said):
    for run in swept.client.search_runs([swept.experiment_id]):
        swept.client.set_tag(run.info.run_id, "protection", "plain")
        swept.client.set_tag(run.info.run_id, "view", "pixels")
        swept.client.set_tag(run.info.run_id, "data_sha256", "ab")
    give(swept, "training.learning_rate=0.0123456789")
    (tmp_path / "models/plain/pixels").mkdir(parents=True)
    (tmp_path / "models/plain/pixels/run.json").touch()
    record = SimpleNamespace(metrics={OBJECTIVE: 0.236}, tags={"data_sha256": data})
    monkeypatch.setattr("ppdl.tracking.runs.record.read_record", lambda path: record)
    result = CliRunner().invoke(main, ["sweep", "apply"])
    assert f"validation log loss 0.4; {said}\n" in result.output


def test_a_trial_that_was_given_nothing_leaves_nothing_to_take_over(swept, conf):
    result = CliRunner().invoke(main, ["sweep", "apply", "multirun/2026-01-31/12-00-00"])
    assert result.exit_code == 1 and "trial 1 of multirun/2026-01-31/12-00-00 has the values of conf/ alone" in result.output
    assert not (conf / "local").exists()


def test_values_that_break_a_rule_by_now_are_refused_and_nothing_is_written(swept, conf):
    give(swept, "training.learning_rate=0.01", "training.epochs=0")
    before = place.PARAMS.read_bytes()
    result = CliRunner().invoke(main, ["sweep", "apply"])
    assert result.exit_code == 1 and "warmup_epochs must be less than epochs (0), got 0.5" in result.output
    assert place.PARAMS.read_bytes() == before and not (conf / "local").exists()
