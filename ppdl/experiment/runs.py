"""All runs that a configuration asks for."""

from __future__ import annotations

from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.head_run import HeadRun, head_runs
from ppdl.experiment.training.network_run import NetworkRun, network_runs


def runs_of(experiment: Experiment) -> list[NetworkRun | HeadRun]:
    """List the runs of the configuration in the order of the reports: plain first, heads last."""
    return [*network_runs(experiment), *head_runs(experiment)]
