"""Each MLflow run is told once, all that came out of its training."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from ppdl.config import PARAMS, Workspace
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.finish import RunResults, finish
from ppdl.experiment.runs import runs_of
from ppdl.tracking import DatasetRecord, RunRecord
from tests.evaluation.report_content import full_content


@pytest.mark.parametrize("takes_pictures", [True, False])
def test_a_run_is_told_once_and_shows_images_only_where_they_may_lie(tmp_path, monkeypatch, takes_pictures):
    cfg = OmegaConf.load(PARAMS)
    cfg.heads, experiment, content = {}, Experiment(cfg, Workspace(tmp_path, tmp_path)), full_content()
    tested, told, described = {}, {}, []
    for run in runs_of(experiment):
        dataset = DatasetRecord("phantom", "cd", "data/prepared", {"train": 1})
        record = RunRecord("ab", "ppdl", run.name, 0, 1, {}, {}, dataset, None, [], {"fit/expansion_factor": 2.0})
        record.write(run.out_dir / "run.json")
        tested[run.name] = RunResults(content.metrics[run.name], {"roc": Figure()}, {"gradcam": Figure()})

    def log(store, run_json, metrics, **more):
        name = run_json.parent.parent.name
        assert name not in told
        told[name] = metrics, more
        return name

    monkeypatch.setattr("ppdl.tracking.log_results", log)
    monkeypatch.setattr("ppdl.tracking.open_store", lambda *_: SimpleNamespace(experiment_id="1", takes_pictures=lambda _: takes_pictures))
    monkeypatch.setattr("ppdl.tracking.runs.page.describe_experiment", lambda store, text: described.append(text))
    (tmp_path / "reports").mkdir()
    finish(experiment, content, tested)
    summary = json.loads((tmp_path / "reports/summary.json").read_text())
    assert all(row.keys() == told.keys() for row in summary.values()) and summary["leakage"]["plain"] == 3
    assert summary["attacker_gain"]["opaque"] == 0 == told["opaque"][0]["answer"]["attacker_gain"]
    assert list(told) == ["plain", "deterministic", "opaque", "homomorphic"] and len(described) == 1
    metrics, more = told["opaque"]
    assert metrics["test"]["accuracy"] == 0.2537 and metrics["cost"]["encrypt_seconds"] > 0 and metrics["audit"]["best_ssim"] < 1
    assert metrics["answer"]["bytes_per_pixel"] == 2 and told["plain"][0]["audit"] == {"best_ssim": 1.0}
    assert not any("_num_" in name for name in metrics["cost"]) and more["tags"]["control"] == "at chance"
    assert set(more["figures"]) == ({"roc", "gradcam"} if takes_pictures else {"roc"}) and bool(more["artifacts"]) is takes_pictures
    assert more["verdict"].startswith("**Utility:** accuracy 25.4 %")
