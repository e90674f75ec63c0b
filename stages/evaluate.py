"""Everybody: the test set, once. Reports below reports/; test metrics and attacks added to the MLflow run of each training."""

import functools

import rich
from omegaconf import DictConfig

from ppdl.config import Workspace, stage
from ppdl.evaluation.measures.controls import settle_control
from ppdl.evaluation.measures.permutation import PermutationResult
from ppdl.evaluation.predictions.calibration import load_calibration
from ppdl.evaluation.report.tables import results_table
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.finish import finish, results_of_runs
from ppdl.experiment.results.insight import figures_of, insights_of
from ppdl.experiment.results.page import write_report
from ppdl.experiment.results.report import border_predictions, permute_control, repeat_under_second_key, report
from ppdl.experiment.runs import runs_of
from ppdl.experiment.training.network_run import NetworkRun


def run(cfg: DictConfig, workspace: Workspace) -> None:
    experiment = Experiment(cfg, workspace)
    runs = {run.name: run for run in runs_of(experiment)}
    networks = {name: run for name, run in runs.items() if isinstance(run, NetworkRun)}
    temperatures = {name: load_calibration(run.trained).temperature for name, run in runs.items()}
    predictions = {name: run.predict() for name, run in runs.items()}
    insights = insights_of(experiment, networks.values(), predictions, temperatures)
    summary, controls = report(
        experiment,
        predictions | {"border": border_predictions(experiment)},
        temperatures=temperatures,
        more={name: found.metrics for name, found in insights.items()},
        more_figures=figures_of(experiment.prepared, insights),
    )
    rich.print(results_table(summary))
    finish(experiment, write_report(experiment), results_of_runs(experiment.prepared, summary, predictions, insights))

    def repeat(control: NetworkRun) -> PermutationResult:
        return permute_control(control, repeat_under_second_key(control))

    for name, control in controls.items():
        print(settle_control(control, functools.partial(repeat, networks[name])))


main = stage(run)

if __name__ == "__main__":
    main()
