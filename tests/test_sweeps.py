"""Sweeps for real, with Hydra's sweepers and launchers: objective, bad trials, mistakes, two jobs at once. What they train is a formula."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from omegaconf import OmegaConf

from ppdl.config import PROJECT, Workspace
from ppdl.errors import ConfigError
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.network_run import NetworkRun, _after_epoch, _pruning, train_branch

# The best learning rate is 1e-2. Jobs leave behind what the test asks for.
_APP = """
import json, math, os, time
from pathlib import Path
from ppdl.config import stage
from ppdl.errors import ConfigError, DivergedError

def run(cfg, workspace):
    rate = cfg.training.learning_rate
    facts = dict(pid=os.getpid(), sweep=workspace.sweep, job=workspace.job, threads=cfg.training.num_threads,
                 pruning=cfg.pruning is not None, rate=rate)
    (workspace.outputs / "facts.json").write_text(json.dumps(facts))
    last = time.time() + 60
    while len(list(workspace.outputs.parent.glob("*/facts.json"))) < int(os.environ["AT_ONCE"]):
        assert time.time() < last, "the other job does not run at the same time"
        time.sleep(0.05)
    if cfg.seed == 13:
        raise ConfigError("seed 13 is refused")
    if rate > 2e-2:
        raise DivergedError(f"the loss became nan at rate {rate:.2g}")
    return (math.log10(rate) + 2) ** 2

main = stage(run)

if __name__ == "__main__":
    main()
"""


def run_sweep(folder: Path, *overrides: str, at_once: int = 0) -> SimpleNamespace:
    """Run the formula as a sweep with overrides; return exit code, output, what jobs left and what Optuna wrote."""
    (folder / "app.py").write_text(_APP)
    command = [sys.executable, "app.py", "-m", "hydra.sweep.dir=jobs", *overrides]
    env = os.environ | {"PYTHONPATH": str(PROJECT), "AT_ONCE": str(at_once)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    jobs = [json.loads(path.read_text()) for path in sorted(folder.glob("jobs/*/facts.json"), key=lambda path: int(path.parent.name))]
    results = folder / "jobs/optimization_results.yaml"
    best = yaml.safe_load(results.read_text()) if results.exists() else None
    return SimpleNamespace(code=done.returncode, output=done.stdout + done.stderr, jobs=jobs, best=best)


@pytest.fixture
def sweep(tmp_path):
    return partial(run_sweep, tmp_path)


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory) -> SimpleNamespace:
    """Optuna's twelve trials, one after another."""
    return run_sweep(tmp_path_factory.mktemp("sweep"), "+sweep=optuna")


def test_optuna_minimises_the_objective_and_survives_bad_trials(one_by_one):
    done = one_by_one
    assert done.code == 0, done.output
    assert len(done.jobs) == 12 and {job["job"] for job in done.jobs} == set(range(12))
    assert all(job["pruning"] and job["sweep"] == "jobs" for job in done.jobs)
    bad = [job for job in done.jobs if job["rate"] > 2e-2]
    assert bad and done.output.count("DivergedError: the loss became nan") == len(bad)
    good = min(
        (job["rate"] for job in done.jobs if job not in bad), key=lambda rate: abs(rate / 1e-2 - 1) if rate > 1e-2 else 1e-2 / rate - 1
    )
    assert done.best["best_params"]["training.learning_rate"] == pytest.approx(good)
    assert 0 <= done.best["best_value"] < 0.1


def test_two_jobs_at_once_draw_the_same_trials(sweep, one_by_one):
    done = sweep("+sweep=[optuna,joblib]", "hydra.sweeper.n_trials=2", at_once=2)
    assert done.code == 0, done.output
    first, second = done.jobs
    assert first["pid"] != second["pid"] and first["threads"] == second["threads"] == 1
    assert [job["rate"] for job in one_by_one.jobs[:2]] == [job["rate"] for job in done.jobs]


@pytest.mark.parametrize("which", ["grid", "[optuna,joblib]"])
def test_a_mistake_ends_a_sweep_at_once_with_its_message(sweep, which):
    done = sweep(f"+sweep={which}", "seed=13")
    assert done.code == 1 and len(done.jobs) <= 2 and done.best is None
    assert "ConfigError: seed 13 is refused" in done.output and "Traceback" not in done.output


def test_the_grid_is_all_combinations_and_the_command_line_replaces_a_list(sweep):
    done = sweep("+sweep=grid", "model.dropout=0.0", "training.learning_rate=1e-3,1e-2,5e-2,1e-4", "pruning=null")
    assert done.code == 0 and [job["rate"] for job in done.jobs] == [1e-3, 1e-2, 5e-2, 1e-4]  # the third diverged
    assert not any(job["pruning"] for job in done.jobs)


def experiment_with(pruning: object, folder: Path, **sweep: object) -> Experiment:
    return Experiment(OmegaConf.create({"pruning": pruning}), Workspace(inputs=folder, outputs=folder, **sweep))


RULE = {"_target_": "ppdl.training.fitting.pruning.MedianStopping", "least_epochs": 2, "least_trials": 1}


def test_pruning_is_for_jobs_of_a_sweep_alone(tmp_path):
    assert _pruning(experiment_with(None, tmp_path)) is None
    with pytest.raises(ConfigError, match="pruning compares the jobs of a sweep, and this is none: set pruning=null"):
        _pruning(experiment_with(RULE, tmp_path))


def test_a_hopeless_trial_is_logged_marked_and_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ppdl.tracking.runs.sweep.finished_losses", lambda folder, name: {(tmp_path, "plain"): [[1.0, 0.5, 0.2]]}[folder, name]
    )
    rule = _pruning(experiment_with(RULE, tmp_path, sweep=str(tmp_path), job=1))
    logged, marked = [], []
    tracked = SimpleNamespace(log_epoch=lambda epoch, row: logged.append(epoch), mark=marked.append)
    after = _after_epoch(rule, str(tmp_path), "plain", tracked)
    assert [after(0, {"val_log_loss": 3.0}), after(1, {"val_log_loss": 0.75})] == [False, False]
    assert after(2, {"val_log_loss": 0.9}) is True  # its best, 0.75, is above (1 + 0.5 + 0.2) / 3
    assert logged == [0, 1, 2] and marked == ["pruned"]


def test_the_objective_is_that_of_the_first_view(monkeypatch):
    objectives = {"spectral": 0.25, "bytes": 0.5}
    monkeypatch.setattr("ppdl.experiment.training.network_run.build", lambda node, where: None)
    monkeypatch.setattr(NetworkRun, "train", lambda self, *, stage: SimpleNamespace(objective=objectives[self.view]))
    cfg = OmegaConf.create({"model": None, "training": None, "protections": {"deterministic": {"views": ["spectral", "bytes"]}}})
    assert train_branch(Experiment(cfg, None), "deterministic", stage="stages.train_encrypted") == 0.25
