"""Where trained networks look, for views that are pictures: Grad-CAM, and test images with and without their lungs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.datasets.prepared.arrays import Prepared
from ppdl.evaluation.insight.gradcam_figure import Looked, plot_gradcam
from ppdl.evaluation.insight.lungs import PARTS, blanked, is_picture, masked_rows, mass_inside, mean_with_ends
from ppdl.evaluation.measures.baselines import chance
from ppdl.evaluation.measures.metrics import evaluate
from ppdl.evaluation.predictions.calibration import apply_temperature
from ppdl.evaluation.predictions.predictions import Predictions, predictions_of
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.network_run import NetworkRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

NUM_SHOWN = 4  # images in the figure
NUM_MAPS = 500  # images whose Grad-CAM is compared with the lungs
_CHUNK = 100
GRADCAM = "gradcam"


@dataclass(frozen=True, eq=False)
class Insight:
    """Hold where one run looks.

    Attributes:
        looked: on the images of `shown_rows`; None for a network without convolutions.
        metrics: where there are lung masks, by name; see `accuracy_by_part` and `gradcam_shares`.
    """

    looked: Looked | None
    metrics: dict[str, float | None]


def insights_of(
    experiment: Experiment,
    networks: Iterable[NetworkRun],
    predictions: Mapping[str, Predictions],
    temperatures: Mapping[str, float],
) -> dict[str, Insight]:
    """Return where each network looks that is fed pictures, by run.

    Args:
        predictions: by run, of all test images.
        temperatures: by run.

    Cost: a Grad-CAM of up to 500 test images and, with lung masks, two predictions of all of them, for each such run.
    """
    from ppdl.evaluation.insight.gradcam import NoMapError

    prepared, found = experiment.prepared, dict[str, Insight]()
    shown, masks = shown_rows(prepared), prepared.masks
    masked = masked_rows(masks, prepared.rows("test")) if masks is not None else shown[:0]
    if len(masked) and prepared.index["group"].iloc[masked].nunique() < 2:
        logger.warning("the tests of the lungs need test images with masks of at least 2 groups: left out")
        masked = masked[:0]
    for run in networks:
        name, view = run.name, run.source.view
        if not is_picture(view, prepared.images, shown):
            continue
        looked, metrics = None, dict[str, float | None]()
        if masks is not None and len(masked):
            metrics = accuracy_by_part(run, masks, masked, predictions[name])
        try:
            looked = _looked(run, shown, predictions_of_rows(predictions[name], prepared, shown), temperatures[name])
            if masks is not None and len(masked):
                metrics |= gradcam_shares(run, masks, masked)
        except NoMapError as error:
            logger.warning("%s: %s", name, error)
        found[name] = Insight(looked, metrics)
    return found


def shown_rows(prepared: Prepared) -> np.ndarray:
    """Return up to 4 test images: the first ones of the classes in turn."""
    rows, labels = prepared.rows("test"), prepared.index["label"].to_numpy()
    number = np.empty(len(rows), int)  # of an image among those of its class
    for label in np.unique(labels[rows]):
        own = labels[rows] == label
        number[own] = np.arange(own.sum())
    return rows[np.lexsort((labels[rows], number))[:NUM_SHOWN]]


def accuracy_by_part(run: NetworkRun, masks: np.ndarray, rows: np.ndarray, predictions: Predictions) -> dict[str, float | None]:
    """Test a network on images with and without their lungs; what is blanked gets the mean of training images, elsewhere that of `rows`.

    Args:
        rows: test images with a mask.
        predictions: of all test images.

    Returns:
        lungs_num_images and lungs_chance; whole_accuracy, only_lungs_accuracy and without_lungs_accuracy with their ends.
    """
    from ppdl.training.networks.predict import predict_logits

    prepared, batch_size = run.experiment.prepared, run.experiment.cfg.training.batch_size
    labels = prepared.index["label"].to_numpy()[rows]
    found: dict[str, Any] = {"lungs_num_images": len(rows), "lungs_chance": chance(labels, len(prepared.class_names))["accuracy"]}
    said = {"whole": predictions_of_rows(predictions, prepared, rows)}
    looks = rows if run.experiment.external else prepared.rows("train")  # what the mean of films is of
    for part in PARTS:
        left = blanked(run.source.view, masks, looks, part)
        said[part] = predictions_of(prepared, rows, predict_logits(run.fused, left, rows, batch_size))
    for part, of_part in said.items():
        of = evaluate(of_part)
        found |= {f"{part}_accuracy{end}": of[f"accuracy{end}"] for end in ("", "_low", "_high")}
    return found


def gradcam_shares(run: NetworkRun, masks: np.ndarray, rows: np.ndarray) -> dict[str, float | None]:
    """Compare where the mass of Grad-CAM lies with where the lungs are.

    Args:
        rows: test images with a mask; of more than 500 as many, evenly spaced.

    Returns:
        gradcam_lung_share (of the mass), gradcam_lung_area (what chance gives) and gradcam_lung_excess, their difference, with their
        ends; gradcam_num_images, and gradcam_cells, the side of the map before it is enlarged. Nothing where fewer than two groups
        have a map.
    """
    from ppdl.evaluation.insight.gradcam import map_shape

    rows = rows[np.linspace(0, len(rows) - 1, min(NUM_MAPS, len(rows))).astype(int)]
    chunks = np.array_split(rows, -(-len(rows) // _CHUNK))
    shares, areas = np.concatenate([mass_inside(_maps(run, chunk), masks[chunk]) for chunk in chunks], axis=1)
    has = ~np.isnan(shares)
    groups = run.experiment.prepared.index["group"].to_numpy()[rows[has]]
    if len(np.unique(groups)) < 2:
        return {}
    found: dict[str, float | None] = {"gradcam_num_images": len(groups), "gradcam_cells": map_shape(run.model)[0]}
    for name, values, least in (("share", shares, 0), ("area", areas, 0), ("excess", shares - areas, -1)):
        found |= mean_with_ends(f"gradcam_lung_{name}", values[has], groups, least)
    return found


def predictions_of_rows(predictions: Predictions, prepared: Prepared, rows: np.ndarray) -> Predictions:
    """Return the part of the predictions of all test images that is about `rows`."""
    return predictions_of(prepared, rows, predictions.logits[np.searchsorted(prepared.rows("test"), rows)])


def _maps(run: NetworkRun, rows: np.ndarray) -> np.ndarray:
    from ppdl.evaluation.insight.gradcam import grad_cam
    from ppdl.training.networks.model import input_dtype

    array = run.source.view.array
    return grad_cam(run.model, np.asarray(array[rows], input_dtype(array.dtype)))


def _looked(run: NetworkRun, rows: np.ndarray, predictions: Predictions, temperature: float) -> Looked:
    said = [predictions.class_names[c] for c in predictions.predicted]
    return Looked(_maps(run, rows), said, apply_temperature(predictions.logits, temperature).max(axis=1).tolist())


def figures_of(prepared: Prepared, insights: Mapping[str, Insight]) -> dict[str, Figure]:
    """Draw where the runs look, by name of the figure; it shows images of the data set. Nothing where no network has a Grad-CAM."""
    looked = {name: found.looked for name, found in insights.items() if found.looked is not None}
    if not looked:
        return {}
    rows = shown_rows(prepared)
    names = prepared.index["class_name"].iloc[rows].tolist()
    masks = None if prepared.masks is None else prepared.masks[rows]
    return {GRADCAM: plot_gradcam(prepared.images[rows], names, looked, masks=masks)}
