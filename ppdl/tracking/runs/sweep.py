"""The trials of a sweep, found again in the store and in its folder."""

from __future__ import annotations

import math
from pathlib import Path

from ppdl.errors import TrackingError
from ppdl.records.trial import STUDY, open_study
from ppdl.tracking.query import StoredRun, found_runs
from ppdl.tracking.runs.record import read_record
from ppdl.tracking.store import Store

PRUNED = "pruned"  # tag: the trial was stopped because others are better
OBJECTIVE = "fit/best_val_log_loss"
_NOT_A_SWEEP = "stages.crossval"  # folds carry the tag too, and are no trials to choose among


def model_folder(folder: Path, trial: StoredRun) -> Path:
    """Return where below a sweep's folder the model of a trial is.

    Raises:
        TrackingError: it is not there.
    """
    for path in folder.rglob("run.json"):
        if read_record(path).run_id == trial.run_id:
            return path.parent
    raise TrackingError(f"{folder} has no model of trial {trial.tags.get('job')} (run {trial.run_id}): start this where the sweep was run")


def importances(folder: Path) -> dict[str, float]:
    """Return how much each value that was drawn mattered, in parts of 1, the largest first; empty where two trials or no study tell.

    Source: Watanabe et al. 2023, PED-ANOVA (IJCAI), as Optuna has it.
    """
    if not (folder / STUDY).is_file():
        return {}
    import optuna

    study = open_study(folder)
    told = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE and math.isfinite(trial.value or 0)]
    return optuna.importance.get_param_importances(study) if len(told) > 2 else {}


def find_sweep(store: Store, folder: str | None) -> tuple[str, list[StoredRun]]:
    """Return the folder of a sweep as its runs name it, and those runs in the order of their start; of a job that ran again, the last.

    Args:
        folder: None: the sweep of the newest run.

    Raises:
        TrackingError: there is no such sweep; it names those that there are.
    """
    sweeps = _sweeps(store)
    if not sweeps:
        raise TrackingError(f"{store.shown} has no run of a sweep: start one with `python -m stages.train_plain -m +sweep=optuna`")
    names = [name for name in sweeps if folder is None or Path(name).resolve() == Path(folder).resolve()]
    if not names:
        raise TrackingError(f"{store.shown} has no run of the sweep {folder}; there are {', '.join(list(sweeps)[:5])}")
    last = {(run.name, run.tags.get("job")): run for run in sweeps[names[0]][::-1]}
    return names[0], list(last.values())


def _sweeps(store: Store) -> dict[str, list[StoredRun]]:
    """Return all sweeps, newest first, with their runs, newest first."""
    found: dict[str, list[StoredRun]] = {}
    for run in found_runs(store, "tags.sweep LIKE '%'"):
        if run.tags.get("stage") != _NOT_A_SWEEP:
            found.setdefault(run.tags["sweep"], []).append(run)
    return found
