"""MLflow runs: one for each training, found again by evaluation, rebuilt in a clone that has models but no runs.

Only this package imports mlflow, and only when a store is opened: importing it costs nothing.

A train stage::

    spec = RunSpec(name="deterministic", stage="stages.train_encrypted", config=plain(cfg), ...)
    with start_training_run(spec, store_root=checkout(), project=PROJECT, experiment=cfg.tracking.experiment) as run:
        result = fit(..., callbacks=[...run.log_epoch...])
        run.log_history(result.history)
        run.log_summary({"best_epoch": result.best_epoch, "seconds": result.seconds})
        run.log_model(models / "model.keras", result.model, num_symbols=256, step=result.best_epoch, class_names=names)
        run.write_record(models / "run.json")

Evaluation::

    log_results(open_store(checkout(), cfg.tracking.experiment), models / "run.json", {"test": metrics}, figures=figures)

A clone after `dvc pull`::

    restore_runs(Path("models"), open_store(checkout(), cfg.tracking.experiment))

Names of metrics: see `ppdl.tracking.runs.names`. What is never logged: see `ppdl.tracking.runs.redact`.
"""

from ppdl.tracking.runs.record import DatasetRecord, ModelRecord, RunRecord, read_record
from ppdl.tracking.runs.results import ensure_run, log_results, restore_runs
from ppdl.tracking.runs.run import TrainingRun, start_training_run
from ppdl.tracking.runs.spec import RunSpec
from ppdl.tracking.store import open_store

__all__ = [
    "DatasetRecord",
    "ModelRecord",
    "RunRecord",
    "RunSpec",
    "TrainingRun",
    "ensure_run",
    "log_results",
    "open_store",
    "read_record",
    "restore_runs",
    "start_training_run",
]
