"""Everybody: the test set, once. Reports below reports/; test metrics and attacks added to the MLflow run of each training."""

import functools

import rich
from omegaconf import DictConfig

from ppdl.config import Workspace, stage
from ppdl.evaluation.measures.controls import settle_control
from ppdl.evaluation.measures.permutation import PermutationResult
from ppdl.evaluation.predictions.calibration import load_calibration
from ppdl.evaluation.report.tables import external_table, results_table
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.external import external_results
from ppdl.experiment.results.finish import finish, results_of_runs
from ppdl.experiment.results.insight import figures_of, insights_of
from ppdl.experiment.results.page import write_report
from ppdl.experiment.results.report import border_predictions, permute_control, repeat_under_second_key, report
from ppdl.experiment.results.unlike import unlike_results
from ppdl.experiment.runs import runs_of
from ppdl.experiment.training.network_run import NetworkRun


def run(cfg: DictConfig, workspace: Workspace) -> None:
    experiment = Experiment(cfg, workspace)
    runs = {run.name: run for run in runs_of(experiment)}
    networks = {name: run for name, run in runs.items() if isinstance(run, NetworkRun)}
    temperatures = {name: load_calibration(run.trained).temperature for name, run in runs.items()}
    predictions = {name: run.predict() for name, run in runs.items()}
    insights = insights_of(experiment, networks.values(), predictions, temperatures)
    asked = {there: {name: run.at(there) for name, run in runs.items()} for there in experiment.elsewhere()}
    unlike = unlike_results(experiment, networks, asked)
    summary, controls = report(
        experiment,
        predictions | {"border": border_predictions(experiment)},
        temperatures=temperatures,
        more={name: (insights[name].metrics if name in insights else {}) | unlike.get(name, {}) for name in networks},
        more_figures=figures_of(experiment.prepared, insights),
    )
    rich.print(results_table(summary))
    for name, there in external_results(experiment, asked, summary, temperatures=temperatures, pictures=insights.keys()).items():
        rich.print(external_table(name, there) or "")
    finish(experiment, write_report(experiment), results_of_runs(experiment.prepared, summary, predictions, insights, unlike))

    def repeat(control: NetworkRun) -> PermutationResult:
        return permute_control(control, repeat_under_second_key(control))

    for name, control in controls.items():
        print(settle_control(control, functools.partial(repeat, networks[name])))


main = stage(run)

if __name__ == "__main__":
    main()
