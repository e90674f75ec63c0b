"""Everybody: the test set, once. Reports below reports/, test metrics added to the MLflow run of each training."""

import rich
from omegaconf import DictConfig

from ppdl.config import Workspace, stage
from ppdl.evaluation.controls import settle_control
from ppdl.evaluation.tables import results_table
from ppdl.runs import (
    border_predictions,
    log_results,
    prepared_data,
    repeat_under_second_key,
    report,
    runs_of,
    test_control,
    test_predictions,
)


def run(cfg: DictConfig, workspace: Workspace) -> None:
    prepared = prepared_data(cfg, workspace)
    runs = {run.name: run for run in runs_of(cfg)}
    predictions = {name: test_predictions(cfg, workspace, run, prepared) for name, run in runs.items()}
    summary, controls = report(cfg, workspace, predictions | {"border": border_predictions(prepared)})
    rich.print(results_table(summary))
    log_results(cfg, workspace, summary, predictions)
    for name, first in controls.items():
        print(
            settle_control(
                name, first, lambda name=name: test_control(cfg, name, repeat_under_second_key(cfg, workspace, runs[name], prepared))
            )
        )


main = stage(run)

if __name__ == "__main__":
    main()
