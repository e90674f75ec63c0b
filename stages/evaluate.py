"""Everybody: the test set, once. Reports below reports/, test metrics added to the MLflow run of each training."""

from omegaconf import DictConfig

from ppdl.config import Workspace, checkout, plain, stage
from ppdl.evaluation.report import write_reports
from ppdl.runs import border_predictions, log_results, prepared_data, runs_of, test_predictions


def run(cfg: DictConfig, workspace: Workspace) -> None:
    prepared = prepared_data(cfg, workspace)
    predictions = {run.name: test_predictions(cfg, workspace, run, prepared) for run in runs_of(cfg)}
    reports = workspace.outputs / "reports"
    results = write_reports(reports, predictions, border=border_predictions(prepared), **plain(cfg.evaluation))
    log_results(cfg, workspace, results)


main = stage(run)

if __name__ == "__main__":
    main()
