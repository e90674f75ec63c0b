"""Hydra's sweeper `optuna_study`: Optuna draws the trials, and its study in the sweep's folder lets the same command go on with them."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import joblib
from filelock import FileLock, Timeout
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig, OmegaConf

from ppdl.config import build, differing, plain
from ppdl.config.choices import override
from ppdl.errors import ConfigError, PpdlError, install_extra

log = logging.getLogger(__name__)


@dataclass
class OptunaStudyConf:
    """See conf/sweep/optuna.yaml."""

    _target_: str = "hydra_plugins.optuna_study.OptunaStudy"
    _recursive_: bool = False  # what Optuna lacks is said by `sweep`
    n_trials: int = MISSING
    n_jobs: int = MISSING
    sampler: dict[str, Any] = field(default_factory=dict)
    pruner: Optional[dict[str, Any]] = None  # noqa: UP045  # OmegaConf reads this
    params: dict[str, str] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/sweeper", name="optuna_study", node=OptunaStudyConf, provider="ppdl")


class OptunaStudy(Sweeper):
    """Draw trials until a study has `n_trials`, `n_jobs` at a time. Job N of the sweep is trial N, and tells the study its end itself."""

    def __init__(self, n_trials: int, n_jobs: int, sampler: DictConfig, pruner: Any, params: DictConfig) -> None:
        self.n_trials, self.n_jobs = n_trials, joblib.effective_n_jobs(n_jobs)
        self.sampler, self.pruner, self.params = sampler, pruner, params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)
        self.folder = Path(config.hydra.sweep.dir)

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that the study lacks. Raises: SystemExit: another sweep has the folder, or a value is wrong; says which."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "study.lock", timeout=0):
                self._sweep(arguments)
        except Timeout:
            raise SystemExit(f"\nConfigError: {self.folder} has a sweep that runs: wait for it, or give hydra.sweep.dir=ANOTHER") from None
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "optuna":
                raise
            raise SystemExit(f"\nConfigError: this sweep needs Optuna 5 ({error}): {install_extra('sweep')}") from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None  # as a shell reports it
        except PpdlError as error:
            raise SystemExit(f"\n{type(error).__name__}: {error}") from None

    def _sweep(self, arguments: list[str]) -> None:
        from optuna.trial import TrialState

        given = [f"{name}={value}" for name, value in self.params.items()] + arguments  # the last of a name counts
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        latest = {one.get_key_element().lstrip("+~"): one for one in parser.parse_overrides(given)}.values()
        space = {one.get_key_element(): distribution(one) for one in latest if one.is_sweep_override()}
        fixed = [str(one.input_line) for one in latest if not one.is_sweep_override()] + [override("hydra.sweep.dir", str(self.folder))]
        study = self._open(fixed, space)
        try:
            while batch := self._next(study, space):
                trials = [study.get_trials(deepcopy=False)[number] for number in batch]
                jobs = [[*(f"{name}={value}" for name, value in trial.params.items()), *fixed] for trial in trials]
                for number, job in zip(batch, self.launcher.launch(jobs, initial_job_idx=batch[0]), strict=True):
                    if job.status == JobStatus.FAILED:
                        study.tell(number, state=TrialState.FAIL)  # it would fail again
                    if job.return_value is None:  # which raises where the job did
                        raise ConfigError("this stage returns nothing to minimise: sweep stages.train_plain or stages.train_encrypted")
        except BaseException:
            done = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
            log.warning(f"Stopped, {done} of {self.n_trials} trials done. The same command goes on, also inside a trial that was stopped")
            raise
        if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            log.info(f"{len(study.trials)} trials in {self.folder}, the best is {study.best_trial.number} with {study.best_value:.4g}")

    def _open(self, fixed: list[str], space: dict[str, Any]) -> Any:
        """Open the study. Raises: ConfigError: its trials are of another configuration."""
        from optuna.trial import TrialState

        from ppdl.records.trial import open_study

        config, sampler = self.hydra_context.config_loader.load_sweep_config(self.config, fixed), plain(self.sampler)
        for name in space:  # what conf/ has for it may be the best trial's value by now
            OmegaConf.update(config, name, None, force_add=True)
        now = {"configuration": {key: plain(config[key]) for key in config if key != "hydra"}, "stage": config.hydra.job.name}
        now = json.loads(json.dumps(now | {"range": {name: str(one) for name, one in space.items()}, "sampler": sampler}))
        study = open_study(self.folder)
        if different := differing(study.user_attrs.get("of", now), now):
            rows = "\n".join(f"  {place}: there {old!r}, of this command {new!r}" for place, (old, new) in different.items())
            raise ConfigError(f"{self.folder} has trials of other values:\n{rows}\nGive those, or another folder: hydra.sweep.dir=ANOTHER")
        study.set_user_attr("of", now)
        for number in _running(study):
            if study.trials[number].params.keys() == space.keys():
                log.info(f"Trial {number} was interrupted, and goes on")
            else:
                study.tell(number, state=TrialState.FAIL)  # it was interrupted while it was drawn
        # A sampler of the same seed would draw again what it drew before the interruption.
        if sampler.get("seed") is not None:
            sampler["seed"] += len(study.trials)
        try:
            build(self.pruner or {"_target_": "optuna.pruners.NopPruner"}, "hydra.sweeper.pruner")  # as each trial does
            return open_study(self.folder, sampler=build(sampler, "hydra.sweeper.sampler"))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"hydra.sweeper: Optuna refuses a value of its sampler or pruner: {error}") from None

    def _next(self, study: Any, space: dict[str, Any]) -> list[int]:
        """Return the numbers of the trials to run next: a launcher counts its jobs on from the first."""
        numbers = _running(study)
        while len(numbers) < self.n_jobs and len(study.get_trials(deepcopy=False)) < self.n_trials:
            numbers.append(study.ask(space).number)
        return [number for i, number in enumerate(numbers[: self.n_jobs]) if number == numbers[0] + i]


def _running(study: Any) -> list[int]:
    return [trial.number for trial in study.get_trials(deepcopy=False) if not trial.state.is_finished()]


def distribution(swept: Override) -> Any:
    """Return what Optuna draws from for a choice, range or interval on the command line. Raises: ConfigError: it is empty."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = swept.value()
    try:
        if isinstance(value, IntervalSweep):
            low, high, more = value.start, value.end, {"log": "log" in value.tags}
        elif isinstance(value, RangeSweep) and not value.shuffle:
            values = sorted(swept.sweep_iterator())
            low, high, more = values[0], values[-1], {"step": abs(value.step)}
        else:
            return CategoricalDistribution(list(swept.sweep_string_iterator()))
        whole = isinstance(low, int) and isinstance(high, int)
        return (IntDistribution if whole else FloatDistribution)(low, high, **more)
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{swept.input_line}: nothing can be drawn from it: {error}") from None
