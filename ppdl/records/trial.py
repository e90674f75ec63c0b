"""A training as a trial of an Optuna study, which lies in the folder of its sweep."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

STUDY = "study.db"  # SQLite, which all processes of a sweep open


def open_study(
    folder: Path, *, sampler: optuna.samplers.BaseSampler | None = None, pruner: optuna.pruners.BasePruner | None = None
) -> optuna.Study:
    """Open the study of a sweep, which minimises; it is made where there is none.

    Args:
        folder: of the sweep.
        sampler, pruner: None: Optuna's own, where nothing is drawn or stopped.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the sweeper says what its trials do
    wait = {"connect_args": {"timeout": 60}}  # seconds, while another job writes
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder.resolve() / STUDY}", engine_kwargs=wait)
    return optuna.create_study(storage=storage, study_name=folder.name, sampler=sampler, pruner=pruner, load_if_exists=True)


class Trial:
    """Handle of the trial that a training is.

    Attributes:
        pruned: whether the training was stopped, because others are better.
    """

    def __init__(self, folder: Path, number: int, pruner: optuna.pruners.BasePruner | None) -> None:
        import optuna

        study = open_study(folder, pruner=pruner or optuna.pruners.NopPruner())
        self._trial = optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
        self.pruned = False

    def stops(self, epoch: int, loss: float) -> bool:
        """Report the loss of an epoch; tell whether the pruner stops the training there."""
        self._trial.report(loss, epoch)
        self.pruned = self._trial.should_prune()
        return self.pruned

    def end(self, objective: float) -> None:
        """Tell the study what became of the trial: at once, so that a sweep that is killed meanwhile keeps it."""
        from optuna.trial import TrialState

        if self.pruned:
            self._trial.study.tell(self._trial, state=TrialState.PRUNED)
        else:
            self._trial.study.tell(self._trial, math.inf if math.isnan(objective) else objective)
