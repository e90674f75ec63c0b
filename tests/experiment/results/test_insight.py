"""On the layout of the Radiography Database: a network that cheats is found out, one that reads the lungs is not accused."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from ppdl.config import Workspace
from ppdl.datasets.preparing.prepare import Split, load_prepared, prepare
from ppdl.datasets.sources.radiography import Radiography
from ppdl.evaluation.predictions.predictions import predictions_of
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.insight import figures_of, insights_of, shown_rows
from ppdl.experiment.training.network_run import network_runs
from ppdl.protections.view import plain_view
from ppdl.training.networks.predict import predict_logits, save_model

PX, NUM_IMAGES = 32, 24
CFG = OmegaConf.create({"protections": {}, "input_px": PX, "training": {"batch_size": 16}})
CLASSES = ("COVID", "Normal")
LUNGS, CORNER = (slice(24, 40), slice(24, 40)), (slice(0, 8), slice(0, 8))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Films of two classes that differ in the lungs and, by a bright square in a corner, outside them."""
    tmp, rng = tmp_path_factory.mktemp("radiography"), np.random.default_rng(0)
    mask = np.zeros((64, 64), np.uint8)
    mask[LUNGS] = 255
    for label, name in enumerate(CLASSES):
        for folder in ("images", "masks"):
            (tmp / "database" / name / folder).mkdir(parents=True)
        for number in range(1, NUM_IMAGES + 1):
            film = rng.integers(90, 110, (64, 64)).astype(np.uint8)
            film[LUNGS] += np.uint8(60 * label)
            film[CORNER] += np.uint8(60 * label)
            Image.fromarray(film).save(tmp / "database" / name / "images" / f"{name}-{number}.png")
            Image.fromarray(mask).save(tmp / "database" / name / "masks" / f"{name}-{number}.png")
    counts = dict.fromkeys(CLASSES, NUM_IMAGES)
    Radiography(root=str(tmp / "database"), handle="", num_images=counts, classes=None, on_bad_image="raise").write_raw(tmp / "raw")
    split = Split(test_fraction=0.5, validation_fraction=0.1, num_folds=None, fold=None, near_duplicate_bits=0, seed=1)
    prepare(tmp / "raw", tmp / "prepared", tmp / "reports", split=split, prepared_px=64, on_bad_image="raise", params={})
    return load_prepared(tmp / "prepared")


def network(cell: tuple[int, int]) -> keras.Model:
    """Return a network that looks at one of 8 x 8 cells of the image, where class 1 is brighter."""
    inputs = keras.Input((PX, PX), dtype="uint8")
    x = keras.layers.Reshape((PX, PX, 1))(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Conv2D(1, 4, strides=4, kernel_initializer=keras.initializers.Constant(1 / 16))(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    weights = np.zeros((64, 2), np.float32)
    weights[8 * cell[0] + cell[1]] = [-50, 50]
    model.layers[-1].set_weights([weights, np.array([25.0, -25.0]) * 130 / 127.5])
    return model


def look(prepared, model, folder):
    save_model(model, folder / "models/plain/pixels/model.keras")
    rows = prepared.rows("test")
    small = plain_view(prepared.images[rows].reshape(-1, PX, 2, PX, 2).mean(axis=(2, 4)).round().astype(np.uint8))
    predictions = {"plain": predictions_of(prepared, rows, predict_logits(model, small, np.arange(len(rows)), 16))}
    experiment = Experiment(CFG, Workspace(folder, folder), prepared)
    return insights_of(experiment, network_runs(experiment), predictions, {"plain": 2.0})["plain"]


def test_a_network_that_looks_outside_the_lungs_is_found_out(prepared, tmp_path):
    found = look(prepared, network((0, 0)), tmp_path).metrics
    assert found["whole_accuracy"] == found["without_lungs_accuracy"] == 1 and found["without_lungs_accuracy_low"] > found["lungs_chance"]
    assert found["only_lungs_accuracy"] == found["lungs_chance"] == 0.5
    assert found["lungs_num_images"] == len(prepared.rows("test")) == NUM_IMAGES


def test_a_network_that_looks_at_the_lungs_is_not_accused(prepared, tmp_path):
    insight = look(prepared, network((4, 4)), tmp_path)
    found = insight.metrics
    assert found["whole_accuracy"] == found["only_lungs_accuracy"] == 1
    assert found["without_lungs_accuracy"] == 0.5 and found["without_lungs_accuracy_low"] <= found["lungs_chance"]
    assert found["gradcam_cells"] == 8 and found["gradcam_lung_area"] == pytest.approx(1 / 16, abs=1e-3)
    assert found["gradcam_lung_share_low"] <= found["gradcam_lung_share"] <= found["gradcam_lung_share_high"]
    excess = found["gradcam_lung_share"] - found["gradcam_lung_area"]
    assert found["gradcam_lung_excess"] == pytest.approx(excess)
    figure = figures_of(prepared, {"plain": insight})["gradcam"]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["COVID", "Normal", "COVID", "Normal"] and all(title.split()[0] in CLASSES for title in titles[4:])


def test_images_of_each_class_are_shown_in_turn(prepared):
    rows = shown_rows(prepared)
    assert prepared.index["class_name"].iloc[rows].tolist() == ["COVID", "Normal"] * 2
    assert set(rows) <= set(prepared.rows("test"))


def test_a_network_without_convolutions_is_tested_without_a_picture(prepared, tmp_path, caplog):
    inputs = keras.Input((PX, PX), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(inputs))
    insight = look(prepared, keras.Model(inputs, keras.layers.Dense(2)(x)), tmp_path)
    assert insight.looked is None and figures_of(prepared, {"plain": insight}) == {}
    assert "without_lungs_accuracy" in insight.metrics and "gradcam_lung_share" not in insight.metrics
    assert "plain: Grad-CAM needs a network whose convolutions are pooled or flattened" in caplog.text


def test_without_masks_there_is_the_picture_alone(prepared, tmp_path):
    insight = look(dataclasses.replace(prepared, masks=None), network((4, 4)), tmp_path)
    assert insight.metrics == {} and insight.looked.maps.shape == (4, PX, PX)
