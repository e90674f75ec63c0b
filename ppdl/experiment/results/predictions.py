"""What runs say of the test images."""

from __future__ import annotations

import zipfile

import numpy as np
from omegaconf import DictConfig

from ppdl.config import Workspace
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.errors import DataError
from ppdl.evaluation.measures.baselines import border_baseline
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.experiment.training.network_run import Trained, open_trained
from ppdl.experiment.training.runs import Run
from ppdl.private_head.head import load_public_head


def predict_test_set(cfg: DictConfig, workspace: Workspace, run: Run, prepared: Prepared, trained: Trained | None = None) -> Predictions:
    """Return what a trained run says about the test images.

    Args:
        trained: the run's network where it is open already.
    """
    from ppdl.training.networks.predict import fused_logits

    rows = prepared.rows("test")
    if run.private:
        return predictions_of(prepared, rows, private_logits(workspace, run, rows))
    trained = trained or open_trained(cfg, workspace, run, prepared)
    return predictions_of(prepared, rows, fused_logits(trained.fused, trained.view, rows, cfg.training.batch_size))


def private_logits(workspace: Workspace, run: Run, rows: np.ndarray) -> np.ndarray:
    """Return what private inference said of the test images `rows`: (num_rows, num_classes) float64.

    Raises:
        DataError: stage private_inference was run for other images, or not at all.
    """
    path = workspace.inputs / "data/private" / run.branch / "logits.npz"
    head = load_public_head(workspace.inputs / run.folder)
    try:
        with np.load(path, allow_pickle=False) as file:
            logits, found = file["logits"], file["rows"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}): run `dvc repro`") from None
    if not np.array_equal(found, rows) or logits.shape != (len(rows), len(head.class_names)):
        raise DataError(f"{path} holds logits {logits.shape} of other test images than data/prepared has ({len(rows)}): run `dvc repro`")
    return scaled_logits(logits, head.logit_scale)


def scaled_logits(logits: np.ndarray, scale: float) -> np.ndarray:
    """Return integer logits as numbers, 0 for the largest of each image: rounding to float32 cannot change which it is."""
    return (logits - logits.max(axis=1, keepdims=True)) * scale


def border_predictions(prepared: Prepared, rows: dict[str, np.ndarray] | None = None) -> Predictions:
    """Return what a linear probe on nothing but the outer ring of the images says about the test images."""
    rows = rows or {name: prepared.rows(name) for name in ("train", "test")}
    logits = border_baseline(prepared.images, prepared.index["label"].to_numpy(), rows["train"], rows["test"])
    return predictions_of(prepared, rows["test"], logits)


def predictions_of(prepared: Prepared, rows: np.ndarray, logits: np.ndarray) -> Predictions:
    """Put logits beside what is known of the images of `rows`."""
    index = prepared.index.iloc[rows]
    return Predictions(
        labels=index["label"].to_numpy(),
        logits=logits,
        groups=index["group"].to_numpy(),
        image_ids=index["path"].to_numpy(),
        class_names=prepared.class_names,
    )
