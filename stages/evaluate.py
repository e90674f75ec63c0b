"""Everybody: the test set, once. Reports below reports/; test metrics and attacks added to the MLflow run of each training."""

import rich
from omegaconf import DictConfig

from ppdl.config import Workspace, stage
from ppdl.evaluation.controls import settle_control
from ppdl.evaluation.tables import results_table
from ppdl.reporting import log_audits, write_report
from ppdl.runs import (
    border_predictions,
    examine_control,
    log_results,
    predict_test_set,
    prepared_data,
    repeat_under_second_key,
    report,
    runs_of,
)


def run(cfg: DictConfig, workspace: Workspace) -> None:
    prepared = prepared_data(cfg, workspace)
    runs = {run.name: run for run in runs_of(cfg)}
    predictions = {name: predict_test_set(cfg, workspace, run, prepared) for name, run in runs.items()}
    summary, controls = report(cfg, workspace, predictions | {"border": border_predictions(prepared)})
    rich.print(results_table(summary))
    log_results(cfg, workspace, summary, predictions)
    log_audits(cfg, workspace, write_report(cfg, workspace))
    for name, first in controls.items():
        print(
            settle_control(
                name, first, lambda name=name: examine_control(cfg, name, repeat_under_second_key(cfg, workspace, runs[name], prepared))
            )
        )


main = stage(run)

if __name__ == "__main__":
    main()
