"""All runs that a configuration asks for, and one as its record describes it."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from ppdl.config import PROJECT, Workspace
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.federated_run import federated_runs
from ppdl.experiment.training.head_run import HeadRun, head_runs
from ppdl.experiment.training.network_run import NetworkRun, network_runs
from ppdl.tracking.runs.record import RunRecord


def runs_of(experiment: Experiment) -> list[NetworkRun | HeadRun]:
    """List the runs of the configuration in the order of the reports: plain first, heads last."""
    return [*network_runs(experiment), *federated_runs(experiment), *head_runs(experiment)]


def predict_recorded(record: RunRecord, folder: Path) -> Predictions:
    """Return what the network in a model folder says of the project's test images, fed as its run's record tells."""
    from ppdl.training.networks.predict import load_model

    experiment = Experiment(OmegaConf.create(dict(record.config)), Workspace(inputs=PROJECT, outputs=PROJECT))
    run = NetworkRun(experiment, record.name, record.tags["protection"], record.tags["view"])
    return run.predict(load_model(folder / "model.keras"))
