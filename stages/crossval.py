"""K-fold cross-validation from data to report in a folder of its own, crossval/NAME; no stage of the pipeline.

python -m stages.crossval +experiment=transfer dataset.root=/data/xrays crossval.name=mine
"""

from functools import partial

import rich
from omegaconf import DictConfig

from ppdl.config import Workspace, stage, with_values
from ppdl.evaluation.report.tables import results_table, validation_table, variance_table, yardstick_table
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.crossval import (
    build_once,
    chosen_runs,
    claimed_folder,
    features_folder,
    pooled,
    train_folds,
    validation,
    write_features,
    write_frozen_features,
)
from ppdl.experiment.results.report import report
from ppdl.experiment.results.yardsticks import compared, read_yardsticks
from ppdl.experiment.training.frozen_run import FrozenRun
from ppdl.experiment.training.head_run import HeadRun
from stages import download, encrypt, keygen, reveal, split, stem


def run(cfg: DictConfig, workspace: Workspace) -> None:
    workspace = workspace.on_its_own()
    experiment = Experiment(cfg, workspace)
    with claimed_folder(experiment):
        _cross_validate(experiment)


def _cross_validate(experiment: Experiment) -> None:
    cfg, workspace, folder = experiment.cfg, experiment.workspace, experiment.workspace.outputs
    build_once(folder / "data/raw", "built_for.json", lambda: download.run(cfg, workspace))
    build_once(folder / "data/prepared", "meta.json", lambda: split.run(cfg, workspace))
    chosen = chosen_runs(experiment)
    for purpose in dict.fromkeys(run.key_purpose for run in chosen if run.key_purpose is not None):
        keygen.run(with_values(cfg, {"branch": purpose}), workspace)
    for head in (run for run in chosen if isinstance(run, HeadRun)):
        build_once(features_folder(folder, head.branch), "features.npz", partial(write_features, head))
    for name in dict.fromkeys(run.branch for run in chosen if run.branch in cfg.protections):
        branch = with_values(cfg, {"branch": name})
        steps = {"encrypted": encrypt} | ({"stem": stem, "revealed": reveal} if name in cfg.revealed else {})
        for place, step in steps.items():
            build_once(folder / "data" / place / name, "header.json", partial(step.run, branch, workspace))
    for run in (run for run in chosen if isinstance(run, FrozenRun)):
        for px in run.head.input_px:
            build_once(features_folder(folder, f"{run.name}-{px}px"), "features.npz", partial(write_frozen_features, run, px))
    yardsticks = read_yardsticks(experiment)  # what lacks is found before hours of work
    train_folds(experiment)
    tables = [validation_table(validation(experiment))]
    if cfg.crossval.test:
        runs = pooled(experiment) | {one.name: one.predictions for one in yardsticks}
        summary, _ = report(experiment, runs, yardsticks=compared(experiment, yardsticks))
        tables += [results_table(summary), yardstick_table(summary), variance_table(summary)]
    for table in tables:
        if table is not None:
            rich.print(table)


main = stage(run, config_name="crossval")

if __name__ == "__main__":
    main()
