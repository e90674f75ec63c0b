"""Everybody: the test set, once. Reports below reports/; test metrics and attacks added to the MLflow run of each training."""

import functools

import rich
from omegaconf import DictConfig

from ppdl.config import Workspace, stage
from ppdl.evaluation.measures.controls import settle_control
from ppdl.evaluation.measures.permutation import PermutationResult
from ppdl.evaluation.predictions.calibration import load_temperature
from ppdl.evaluation.report.tables import results_table
from ppdl.experiment.results.insight import figures_of, insights_of, log_insights
from ppdl.experiment.results.page import log_audits, write_report
from ppdl.experiment.results.predictions import border_predictions, predict_test_set
from ppdl.experiment.results.report import log_results, permute_control, repeat_under_second_key, report
from ppdl.experiment.training.network_run import open_trained
from ppdl.experiment.training.runs import prepared_data, runs_of


def run(cfg: DictConfig, workspace: Workspace) -> None:
    prepared = prepared_data(cfg, workspace)
    runs = {run.name: run for run in runs_of(cfg)}
    temperatures = {name: load_temperature(workspace.inputs / run.folder) for name, run in runs.items()}
    networks = {name: open_trained(cfg, workspace, run, prepared) for name, run in runs.items() if not run.private}
    predictions = {name: predict_test_set(cfg, workspace, run, prepared, networks.get(name)) for name, run in runs.items()}
    insights = insights_of(cfg, prepared, networks, predictions, temperatures)
    summary, controls = report(
        cfg,
        workspace,
        predictions | {"border": border_predictions(prepared)},
        temperatures=temperatures,
        more={name: found.metrics for name, found in insights.items()},
        more_figures=figures_of(prepared, insights),
    )
    rich.print(results_table(summary))
    log_results(cfg, workspace, summary, predictions)
    log_insights(cfg, workspace, prepared, insights)
    log_audits(cfg, workspace, write_report(cfg, workspace))

    def repeat(name: str) -> PermutationResult:
        return permute_control(cfg, name, repeat_under_second_key(cfg, workspace, runs[name], prepared))

    for name, control in controls.items():
        print(settle_control(control, functools.partial(repeat, name)))


main = stage(run)

if __name__ == "__main__":
    main()
