"""`ppdl sweep frontier`: one point a setting, the newest run of each, on the data that is built."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ppdl.cli import main
from ppdl.cli.sweep.frontier import ACCURACY, SSIM, points_of
from ppdl.tracking.query import StoredRun, finished_runs
from ppdl.tracking.runs.record import DatasetRecord
from ppdl.tracking.runs.write import log_description
from ppdl.tracking.store import Point, now_ms, open_store

METRICS = dict(zip((*ACCURACY, SSIM), (0.9, 0.8, 0.95, 0.8), strict=True))


def run(name="homomorphic", ssim=0.8, stride="2", noise="0.0", px="64", **params):
    params["input_px"] = px
    if stride:
        params |= {f"protections.{name}.scheme.stride": stride, f"protections.{name}.reveal.noise": noise}
    return StoredRun("", name, "FINISHED", 1.0, params, METRICS | {SSIM: ssim}, {"protection": name}, "phantom, 3 images")


def test_settings_are_points_and_the_newest_run_counts():
    points = points_of([run(noise="16.0", ssim=0.7), run(noise="16.0", ssim=0.1), run(), run("plain", ssim=1.0, stride=None)])
    assert [(p.group, p.label, p.ssim) for p in points] == [
        ("homomorphic, 64 px, stride 2", "noise 0", 0.8),
        ("homomorphic, 64 px, stride 2", "noise 16", 0.7),
        ("plain, 64 px", "plain, 64 px", 1.0),
    ]
    assert [p.name for p in points][1:] == ["homomorphic, 64 px, stride 2, noise 16", "plain, 64 px"]


def test_noise_levels_stand_in_order_and_strides_apart():
    runs = [run(noise=n, stride=s) for s in ("4", "2") for n in ("64", "4", "16")]
    assert [(p.group[-1], p.label) for p in points_of(runs)] == [(s, f"noise {n}") for s in "24" for n in (4, 16, 64)]


def test_a_head_has_the_size_of_its_own_backbone():
    head = {"heads.private_head.backbone.input_px": "32"}
    assert [p.label for p in points_of([run("private_head", stride=None, px="64", **head)])] == ["private_head, 32 px"]


@pytest.fixture
def add(tmp_path):
    """Add a finished run to the checkout's store."""
    store = open_store(tmp_path, "ppdl")

    def make(name, data_sha256, metrics=METRICS, *, dataset="phantom", num=3, px=64):
        tags = {"protection": name, "data_sha256": data_sha256}
        made = store.client.create_run(store.experiment_id, start_time=now_ms(), run_name=name, tags=tags).info.run_id
        log_description(store, made, {"input_px": px}, name, name, DatasetRecord(dataset, "ab" * 32, "data/prepared", {"train": num}))
        store.log_points(made, [Point(key, value, now_ms(), 0) for key, value in metrics.items()])
        store.client.set_terminated(made)
        return store

    return make


def frontier(*args):
    return CliRunner().invoke(main, ["sweep", "frontier", *args])


def test_the_command_draws_and_prints_where_git_ignores_it(add, built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add("plain", built, {ACCURACY[0]: 0.9})  # not attacked
    add("opaque", built)
    result = frontier()
    assert result.exit_code == 0, result.output
    assert "opaque, 64 px" in result.output and "90.0 [80.0, 95.0]" in result.output and "plain" not in result.output
    assert "phantom, 3 images, 1 of them for testing" in result.output and "left out" not in result.output
    assert f"wrote {tmp_path / 'reports/frontier.png'}\n" in result.output
    assert (tmp_path / "reports/frontier.png").read_bytes().startswith(b"\x89PNG") and not (tmp_path / "frontier.png").exists()
    assert (
        frontier("--out", "made/x.svg").exit_code == 0
        and b"phantom, 3 images, 1 of them for testing" in (tmp_path / "made/x.svg").read_bytes()
    )
    refused = frontier("--out", "made/x.xyz")
    assert refused.exit_code == 2 and "must end in .png, .svg, .pdf, got made/x.xyz" in refused.output.replace("\n", " ")


def test_runs_of_other_data_are_counted_named_and_replace_no_point(add, built):
    add("opaque", built)
    for px in (32, 64):
        store = add("opaque", "cd" * 32, METRICS | {ACCURACY[0]: 0.85}, dataset="folder", num=40, px=px)
    assert [found.dataset for found in finished_runs(store)] == ["folder, 40 images"] * 2 + ["phantom, 3 images"]
    result = frontier()
    assert result.exit_code == 0, result.output
    assert "90.0 [80.0, 95.0]" in result.output and "85.0" not in result.output
    assert "2 runs of other images or another split left out: folder, 40 images (2). `dvc exp apply NAME`" in result.output


def test_runs_of_other_data_alone_are_named_in_the_error(add, built, tmp_path):
    add("opaque", "cd" * 32, dataset="folder", num=40)
    result = frontier()
    assert result.exit_code == 1 and "1 run of other images or another split left out: folder, 40 images (1)" in result.output
    assert "ppdl repro" in result.output and not (tmp_path / "reports").exists()


def test_without_prepared_data_it_says_what_to_run(add, built, tmp_path):
    add("opaque", built)
    (tmp_path / "data/prepared/meta.json").unlink()
    result = frontier()
    assert result.exit_code == 1 and "data/prepared has no meta.json" in result.output and "ppdl repro" in result.output


def test_an_empty_store_says_what_to_run(built, tmp_path):
    result = frontier()
    assert result.exit_code == 1 and "ppdl repro" in result.output and not (tmp_path / "reports").exists()
