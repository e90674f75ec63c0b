"""Sweeps for real, with Hydra's sweepers and launchers: objective, bad trials, mistakes, two jobs at once. What they train is a formula."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hydra_plugins.optuna_study import distribution
from ppdl.config import PROJECT, Workspace
from ppdl.errors import ConfigError
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.network_run import NetworkRun, _after_epoch, train_branch
from ppdl.records.trial import open_study

# The best learning rate is 1e-2. Jobs leave behind what the test asks for.
_APP = """
import json, math, os, signal, time
from pathlib import Path
from ppdl.config import stage
from ppdl.errors import ConfigError, DivergedError

def run(cfg, workspace):
    rate = cfg.training.learning_rate
    facts = dict(pid=os.getpid(), sweep=workspace.sweep, job=workspace.job, threads=cfg.training.num_threads,
                 rate=rate, dropout=cfg.model.dropout, seed=cfg.seed)
    (workspace.outputs / "facts.json").write_text(json.dumps(facts))
    last = time.time() + 60
    while len(list(workspace.outputs.parent.glob("*/facts.json"))) < int(os.environ["AT_ONCE"]):
        assert time.time() < last, "the other job does not run at the same time"
        time.sleep(0.05)
    if os.environ["STOP"] == str(workspace.job):
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.seed == 12:
        raise RuntimeError("a bug")
    if cfg.seed == 13:
        raise ConfigError("seed 13 is refused")
    if rate > 2e-2:
        raise DivergedError(f"the loss became nan at rate {rate:.2g}")
    return (math.log10(rate) + 2) ** 2

main = stage(run)

if __name__ == "__main__":
    main()
"""


def run_sweep(folder: Path, *overrides: str, at_once: int = 0, stop: int = -1) -> SimpleNamespace:
    """Run the formula as a sweep with overrides; return exit code, output, what jobs left and Optuna's trials.

    Args:
        stop: the job that a kill ends, and the sweep with it.
    """
    (folder / "app.py").write_text(_APP)
    command = [sys.executable, "app.py", "-m", "hydra.sweep.dir=jobs", *overrides]
    env = os.environ | {"PYTHONPATH": str(PROJECT), "AT_ONCE": str(at_once), "STOP": str(stop)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    jobs = [json.loads(path.read_text()) for path in sorted(folder.glob("jobs/*/facts.json"), key=lambda path: int(path.parent.name))]
    trials = open_study(folder / "jobs").trials if (folder / "jobs/study.db").exists() else []
    states = [trial.state.name for trial in trials]
    return SimpleNamespace(code=done.returncode, output=done.stdout + done.stderr, jobs=jobs, trials=trials, states=states)


@pytest.fixture
def sweep(tmp_path):
    return partial(run_sweep, tmp_path)


@pytest.fixture(scope="module")
def seven(tmp_path_factory) -> SimpleNamespace:
    """Seven trials of Optuna's, one after another; the fifth was killed, and the same command went on with it."""
    folder = tmp_path_factory.mktemp("sweep")
    killed = run_sweep(folder, "+sweep=optuna", "hydra.sweeper.n_trials=7", stop=4)
    assert killed.code == -signal.SIGKILL and killed.states == ["COMPLETE"] * 4 + ["RUNNING"]
    done = run_sweep(folder, "+sweep=optuna", "hydra.sweeper.n_trials=7")
    return SimpleNamespace(**vars(done), folder=folder, killed=killed)


def test_optuna_minimises_the_objective_and_survives_bad_trials(seven):
    assert seven.code == 0, seven.output
    assert seven.states == ["COMPLETE"] * 7 and [job["job"] for job in seven.jobs] == list(range(7))
    assert all(job["sweep"] == "jobs" for job in seven.jobs)
    values = [math.inf if job["rate"] > 2e-2 else (math.log10(job["rate"]) + 2) ** 2 for job in seven.jobs]
    assert math.inf in values and min(values) < 0.1
    assert [trial.value for trial in seven.trials] == pytest.approx(values)
    assert f"7 trials in jobs, the best is {values.index(min(values))} with {min(values):.4g}" in seven.output


def test_the_same_command_goes_on_with_the_trial_that_was_killed(seven):
    assert "Trial 4 was interrupted, and goes on" in seven.output
    assert [trial.params for trial in seven.trials[:5]] == [trial.params for trial in seven.killed.trials]
    rates = [job["rate"] for job in seven.jobs]
    assert len(set(rates)) == 7  # a seed that began anew would have drawn the first ones again
    again = run_sweep(seven.folder, "+sweep=optuna", "hydra.sweeper.n_trials=7")
    assert again.code == 0 and "#" not in again.output and "7 trials in jobs, the best is" in again.output


def test_a_value_that_is_drawn_may_have_changed_in_conf_since(seven):
    """As after `ppdl sweep apply`: the study is not compared in what it draws."""
    training = open_study(seven.folder / "jobs").user_attrs["of"]["configuration"]["training"]
    assert training["learning_rate"] is None and training["epochs"] is not None


def test_a_study_of_another_configuration_is_refused(seven):
    done = run_sweep(seven.folder, "+sweep=optuna", "seed=7", "training.learning_rate=1e-3", "hydra.sweeper.sampler.seed=2")
    assert done.code == 1 and "ConfigError: jobs has trials of other values:" in done.output
    assert "  configuration.seed: there 20220314, of this command 7\n" in done.output
    assert "  range.training.learning_rate: there 'FloatDistribution" in done.output
    assert "  sampler.seed: there 20220314, of this command 2\n" in done.output
    assert len(done.trials) == 7 and "hydra.sweep.dir=ANOTHER" in done.output and "Traceback" not in done.output


def test_values_of_the_command_line_fix_a_parameter_or_change_its_range(sweep):
    done = sweep("+sweep=optuna", "hydra.sweeper.n_trials=3", "model.dropout=0.25", "training.learning_rate=interval(1e-3,1.1e-3)",
                 "seed=choice(3,5)")  # fmt: skip
    assert done.code == 0, done.output
    assert all(job["dropout"] == 0.25 and 1e-3 <= job["rate"] <= 1.1e-3 and job["seed"] in (3, 5) for job in done.jobs)
    assert all("model.dropout" not in trial.params and len(trial.params) == 5 for trial in done.trials)


def test_two_jobs_at_once_draw_the_same_trials(sweep, seven):
    done = sweep("+sweep=[optuna,joblib]", "hydra.sweeper.n_trials=2", at_once=2)
    assert done.code == 0, done.output
    first, second = done.jobs
    assert first["pid"] != second["pid"] and first["threads"] == second["threads"] == 1
    assert [job["rate"] for job in seven.jobs[:2]] == [job["rate"] for job in done.jobs] and done.states == ["COMPLETE"] * 2


@pytest.mark.parametrize("which", ["grid", "[optuna,joblib]"])
def test_a_mistake_ends_a_sweep_at_once_with_its_message(sweep, which):
    done = sweep(f"+sweep={which}", "seed=13")
    assert done.code == 1 and len(done.jobs) <= 2 and "COMPLETE" not in done.states
    assert "ConfigError: seed 13 is refused" in done.output and "Traceback" not in done.output


def test_a_bug_ends_a_sweep_and_its_trial_is_not_tried_again(sweep):
    done = sweep("+sweep=optuna", "seed=12")
    assert done.code == 1 and done.states == ["FAIL"] and "RuntimeError: a bug" in done.output and "The same command goes on" in done.output


def test_a_wrong_value_of_the_sweep_is_named_before_the_first_trial(sweep):
    done = sweep("+sweep=optuna", "hydra.sweeper.pruner.n_warmup_steps=-1")
    assert done.code == 1 and not done.jobs and "Traceback" not in done.output
    assert "ConfigError: hydra.sweeper: Optuna refuses a value of its sampler or pruner: Number of warmup steps cannot be" in done.output


@pytest.mark.parametrize(
    ("value", "drawn"),
    [
        ("interval(1e-3,0.1)", FloatDistribution(1e-3, 0.1)),
        ("tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("range(0,10,3)", IntDistribution(0, 9, step=3)),
        ("range(3,4)", IntDistribution(3, 3)),
        ("range(1.0,0.0,-0.25)", FloatDistribution(0.25, 1.0, step=0.25)),
        ("null,'a b',60", CategoricalDistribution(["null", "'a b'", "60"])),
        ("interval(0.1,0.01)", None),
        ("tag(log,interval(0.0,1.0))", None),
        ("range(3,3)", None),
    ],
)
def test_what_is_drawn_from(value, drawn):
    swept = OverridesParser.create().parse_override(f"x={value}")
    if drawn is None:
        with pytest.raises(ConfigError, match=re.escape(f"x={value}: nothing can be drawn from it: ")):
            distribution(swept)
    else:
        assert distribution(swept) == drawn


def test_two_sweeps_do_not_share_a_folder(sweep, tmp_path):
    (tmp_path / "jobs").mkdir()
    with FileLock(tmp_path / "jobs/study.lock"):
        done = sweep("+sweep=optuna")
    assert done.code == 1 and not done.jobs and "ConfigError: jobs has a sweep that runs: wait for it" in done.output


def test_the_grid_is_all_combinations_and_the_command_line_replaces_a_list(sweep):
    done = sweep("+sweep=grid", "model.dropout=0.0", "training.learning_rate=1e-3,1e-2,5e-2,1e-4")
    assert done.code == 0 and [job["rate"] for job in done.jobs] == [1e-3, 1e-2, 5e-2, 1e-4]  # the third diverged


def test_a_hopeless_trial_is_logged_marked_and_stopped():
    logged, marked, reported = [], [], []
    tracked = SimpleNamespace(log_epoch=lambda epoch, row: logged.append(epoch), mark=marked.append)
    after = _after_epoch(SimpleNamespace(stops=lambda epoch, loss: reported.append((epoch, loss)) or loss > 0.8), tracked)
    assert [after(0, {"val_log_loss": 0.75}), after(1, {"val_log_loss": 0.9})] == [False, True]
    assert logged == [0, 1] and reported == [(0, 0.75), (1, 0.9)] and marked == ["pruned"]


@pytest.mark.parametrize("pruned", [None, False, True])
def test_the_objective_is_that_of_the_first_view_and_a_stopped_trial_has_no_others(monkeypatch, pruned):
    objectives, trained = {"spectral": 0.25, "bytes": 0.5}, []

    def train(self, *, stage):
        trained.append(self.view)
        return SimpleNamespace(objective=objectives[self.view])

    monkeypatch.setattr("ppdl.experiment.training.network_run.build", lambda node, where: None)
    monkeypatch.setattr(NetworkRun, "train", train)
    cfg = OmegaConf.create({"model": None, "training": None, "protections": {"deterministic": {"views": ["spectral", "bytes"]}}})
    trial = None if pruned is None else SimpleNamespace(pruned=pruned)
    experiment = Experiment(cfg, Workspace(Path(), Path(), trial=trial))
    assert train_branch(experiment, "deterministic", stage="stages.train_encrypted") == 0.25
    assert trained == (["spectral"] if pruned else ["spectral", "bytes"])
