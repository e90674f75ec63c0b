"""Trials of a sweep, found again in its folder and in the store."""

from __future__ import annotations

import pytest

from ppdl.errors import TrackingError
from ppdl.tracking import open_store
from ppdl.tracking.runs.sweep import OBJECTIVE, PRUNED, find_sweep, model_folder


@pytest.fixture
def trial(start, tmp_path):
    """Make a finished run of a sweep, with its run.json below the sweep's folder."""

    def make(job, losses=(1.0,), *, folder="multirun/one", pruned=False, **changes):
        with start(sweep=folder, job=job, **changes) as run:
            for epoch, loss in enumerate(losses):
                run.log_epoch(epoch, {"loss": 9.0, "val_log_loss": loss})
            if pruned:
                run.mark(PRUNED)
            run.log_summary({"best_val_log_loss": min(losses)})
            run.write_record(tmp_path / folder / str(job) / "models/x/y/run.json")

    return make


def test_a_sweep_by_its_folder_or_the_newest(trial, start, store_root, monkeypatch):
    trial(0, [2.0, 1.0])
    trial(1, [3.0, 2.5], pruned=True)
    trial(0, folder="multirun/two")
    trial(0, folder="crossval/default", stage="stages.crossval")
    with start():
        pass
    store = open_store(store_root, "ppdl")
    assert find_sweep(store, None)[0] == "multirun/two"
    monkeypatch.chdir(store_root)
    for folder in ("multirun/one", "./multirun/one/", str(store_root / "multirun/one")):
        name, runs = find_sweep(store, folder)
        assert name == "multirun/one"
        assert [(run.tags["job"], PRUNED in run.tags, run.status, run.metrics[OBJECTIVE]) for run in runs] == [
            ("0", False, "FINISHED", 1.0),
            ("1", True, "FINISHED", 2.5),
        ]
        assert all(run.seconds >= 0 and run.params["seed"] == "7" for run in runs)
    with pytest.raises(TrackingError, match="no run of the sweep crossval/default; there are multirun/two, multirun/one"):
        find_sweep(store, "crossval/default")


def test_of_a_job_that_ran_again_the_last_run_counts(trial, start, store_root):
    with pytest.raises(KeyboardInterrupt), start(sweep="multirun/one", job=0):
        raise KeyboardInterrupt
    trial(0, [2.0])
    trial(0, [4.0], name="deterministic-bytes")
    runs = find_sweep(open_store(store_root, "ppdl"), None)[1]
    assert [(run.name, run.status) for run in runs] == [("deterministic", "FINISHED"), ("deterministic-bytes", "FINISHED")]


def test_the_model_of_a_trial(trial, store_root, tmp_path):
    trial(0)
    trial(1)
    one, two = find_sweep(open_store(store_root, "ppdl"), None)[1]
    folder = tmp_path / "multirun/one"
    assert [model_folder(folder, run) for run in (one, two)] == [folder / "0/models/x/y", folder / "1/models/x/y"]
    with pytest.raises(TrackingError, match=r"has no model of trial 1 \(run .*start this where the sweep was run"):
        model_folder(folder / "0", two)


def test_a_failed_trial_says_what_went_wrong(start, store_root):
    with pytest.raises(RuntimeError), start(sweep="multirun/one", job=3):
        raise RuntimeError("no memory")
    (run,) = find_sweep(open_store(store_root, "ppdl"), None)[1]
    assert (run.tags["job"], run.status, run.tags["failure"]) == ("3", "FAILED", "RuntimeError: no memory") and PRUNED not in run.tags


def test_a_store_without_sweeps_says_how_to_start_one(start, store_root):
    with start():
        pass
    with pytest.raises(TrackingError, match=r"no run of a sweep: start one with `python -m stages.train_plain -m \+sweep=optuna`"):
        find_sweep(open_store(store_root, "ppdl"), None)
