"""The frame that every stage runs in: Hydra composes and checks, user errors end in one message."""

from __future__ import annotations

import functools
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from ppdl.config.components import build
from ppdl.config.place import CONF, PROJECT, Workspace
from ppdl.errors import DivergedError, PpdlError
from ppdl.records.trial import Trial


def stage(run: Callable[[DictConfig, Workspace], float | None], *, config_name: str = "config") -> Callable[[], None]:
    """Turn `run(cfg, workspace)` into a Hydra app whose user errors end in one clear message and exit code 1.

    What `run` returns is the objective of a sweep, which is minimised. A job whose training diverged is a bad trial, and its objective
    infinite; any other user error is the same for the jobs that would follow, so it ends the sweep.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from ppdl.config.check import check_config, disk_failure
    from ppdl.config.choices import hint

    composed = False

    @functools.wraps(run)
    def job(cfg: DictConfig) -> float | None:
        nonlocal composed
        composed = True
        hydra_cfg = HydraConfig.get()
        overrides: tuple[str, ...] = ()
        sweep = number = None
        under_dvc = hydra_cfg.job.config_name == "pipeline"
        if not under_dvc:
            overrides = tuple(hydra_cfg.overrides.task)
            if hydra_cfg.mode == RunMode.MULTIRUN:
                sweep, number = hydra_cfg.sweep.dir, hydra_cfg.job.num
        outputs = Path(hydra_cfg.runtime.output_dir).resolve()
        workspace = Workspace(inputs=PROJECT, outputs=outputs, overrides=overrides, sweep=sweep, job=number)
        trial = None
        logging.captureWarnings(True)
        try:
            check_config(cfg)
            if sweep is not None and "pruner" in (sweeper := hydra_cfg.sweeper):  # Optuna draws the trials
                pruner = sweeper.pruner and build(sweeper.pruner, "hydra.sweeper.pruner")
                trial = Trial(Path(sweep), hydra_cfg.job.num, pruner)
            objective = run(cfg, replace(workspace, trial=trial))
        except PpdlError as error:
            print(f"\n{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            if sweep is None or not isinstance(error, DivergedError):
                raise SystemExit(1) from None  # also ends the sweep, in a worker of the joblib launcher too
            objective = math.inf
        except OSError as error:
            if (text := disk_failure(error, outputs, workspace.unfinished)) is None:
                raise
            print(f"\n{text}", file=sys.stderr, flush=True)
            raise SystemExit(1) from None
        if trial is not None and objective is not None:
            trial.end(objective)
        return objective

    app = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)

    @functools.wraps(run)
    def main() -> None:
        try:
            app()
        except SystemExit as stop:
            if stop.code and not composed and (text := hint(sys.argv[1:])):
                print(text, file=sys.stderr)
            raise

    return main
