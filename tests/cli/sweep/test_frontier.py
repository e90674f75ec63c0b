"""`ppdl sweep frontier`: one point a setting, the newest run of each."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ppdl.cli import main
from ppdl.cli.sweep.frontier import ACCURACY, SSIM, points_of
from ppdl.tracking.query import StoredRun, finished_runs
from ppdl.tracking.store import Point, now_ms, open_store


def run(name="homomorphic", accuracy=0.9, ssim=0.8, stride="2", noise="0.0", px="64"):
    params = {"input_px": px, "prepared_px": "128"}
    if stride:
        params |= {f"protections.{name}.scheme.stride": stride, f"protections.{name}.reveal.noise": noise}
    metrics = dict(zip(ACCURACY, (accuracy, accuracy - 0.1, accuracy + 0.05), strict=True)) | {SSIM: ssim}
    return StoredRun("", name, "FINISHED", 1.0, params, metrics, {"protection": name})


def test_settings_are_points_and_the_newest_run_counts():
    points = points_of([run(noise="16.0", ssim=0.7), run(noise="16.0", ssim=0.1), run(), run("plain", ssim=1.0, stride=None)])
    assert [(p.group, p.label, p.ssim) for p in points] == [
        ("homomorphic, 64 px, stride 2", "noise 0", 0.8),
        ("homomorphic, 64 px, stride 2", "noise 16", 0.7),
        ("plain, 64 px", "plain", 1.0),
    ]


def test_noise_levels_stand_in_order_and_strides_apart():
    runs = [run(noise=n, stride=s) for s in ("4", "2") for n in ("64", "4", "16")]
    assert [(p.group[-1], p.label) for p in points_of(runs)] == [(s, f"noise {n}") for s in "24" for n in (4, 16, 64)]


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path, "ppdl")
    for number, (name, metrics) in enumerate([("plain", {ACCURACY[0]: 0.9}), ("opaque", run().metrics)]):
        made = store.client.create_run(store.experiment_id, start_time=number + 1, run_name=name, tags={"protection": name})
        store.log_points(made.info.run_id, [Point(key, value, now_ms(), 0) for key, value in metrics.items()])
        store.client.set_terminated(made.info.run_id)
    return store


def test_only_runs_that_were_evaluated_and_attacked_count(store):
    runs = finished_runs(store)
    assert [found.name for found in runs] == ["opaque", "plain"]
    assert [point.label for point in points_of(runs)] == ["opaque"]


def test_the_command_draws_and_prints(store, tmp_path, monkeypatch):
    monkeypatch.setattr("ppdl.config.checkout", lambda: tmp_path)
    result = CliRunner().invoke(main, ["sweep", "frontier", "--out", str(tmp_path / "made/x.png")])
    assert result.exit_code == 0, result.output
    assert "opaque" in result.output and "90.0 [80.0, 95.0]" in result.output
    assert (tmp_path / "made/x.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_store_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr("ppdl.config.checkout", lambda: tmp_path)
    result = CliRunner().invoke(main, ["sweep", "frontier", "--out", str(tmp_path / "x.png")])
    assert result.exit_code == 1 and "dvc repro" in result.output and not (tmp_path / "x.png").exists()
