"""Training end to end on a toy network: results, refusals, interruptions."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from ppdl.config import PROJECT
from ppdl.errors import ConfigError, DataError
from ppdl.protections.view import View, plain_view
from ppdl.training.fitting.fit import fit
from ppdl.training.fitting.result import COLUMNS, FitResult
from ppdl.training.fitting.threads import set_num_threads
from ppdl.training.networks.predict import predict_logits
from tests.training.toys import NUM_CLASSES, NUM_IMAGES, TRAIN_ROWS, VALIDATION_ROWS, TinyNet, images_and_labels, training

IMAGES, LABELS = images_and_labels()
VIEW = plain_view(IMAGES)


def run(state_dir, *, view=VIEW, labels=LABELS, train=TRAIN_ROWS, validation=VALIDATION_ROWS, **changes) -> FitResult:
    arguments = {"model": TinyNet(), "training": training(), "num_classes": NUM_CLASSES, "seed": 7, "progress": False}
    return fit(view, labels, train, validation, state_dir=state_dir / "state", **(arguments | changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of four epochs without interruption, and what it reported on the way."""
    folder, epochs, logs = tmp_path_factory.mktemp("whole"), [], []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, log=None):
            logs.append(dict(log))

    def on_epoch(epoch, row):
        assert (folder / "state/state.npz").is_file()
        epochs.append((epoch, row))

    result = run(folder, training=training(epochs=4), callbacks=[Watch()], on_epoch=on_epoch)
    return result, epochs, logs, folder


def test_learns(whole):
    assert whole[0].history["val_accuracy"].max() > 0.9


def test_the_history_has_one_complete_row_an_epoch(whole):
    history = whole[0].history
    assert list(history.columns) == COLUMNS and list(history["epoch"]) == [0, 1, 2, 3]
    assert np.isfinite(history.to_numpy()).all() and (history[["images_per_s", "seconds"]] > 0).all().all()
    rate = history["learning_rate"]
    assert rate.is_monotonic_decreasing and rate[0] < 1e-2 and rate[3] == pytest.approx(0, abs=1e-8)


def test_callbacks_and_on_epoch_see_every_row(whole):
    result, epochs, logs, _ = whole
    rows = result.history.to_dict("records")
    assert [epoch for epoch, _ in epochs] == [0, 1, 2, 3]
    assert [row for _, row in epochs] == rows
    assert [{"epoch": i} | log for i, log in enumerate(logs)] == rows


def test_the_model_is_that_of_the_best_epoch(whole):
    result = whole[0]
    best = result.history["val_loss"].idxmin()
    assert result.best_epoch == best
    logits = predict_logits(result.model, VIEW, VALIDATION_ROWS, 16)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.05)
    found = float(loss(np.eye(NUM_CLASSES)[LABELS[VALIDATION_ROWS]], logits))
    assert found == pytest.approx(result.history["val_loss"][best], rel=1e-3)
    log_loss = keras.losses.CategoricalCrossentropy(from_logits=True)(np.eye(NUM_CLASSES)[LABELS[VALIDATION_ROWS]], logits)
    assert result.objective == result.summary["best_val_log_loss"] == pytest.approx(float(log_loss), rel=1e-3)
    assert (logits.argmax(1) == LABELS[VALIDATION_ROWS]).mean() == pytest.approx(result.history["val_accuracy"][best])


def test_the_summary_is_numbers_and_the_state_is_gone(whole):
    result, *_, folder = whole
    assert result.summary["num_epochs"] == 4 and result.summary["seconds"] >= result.history["seconds"].sum()
    assert all(isinstance(value, int | float) for value in result.summary.values())
    assert not (folder / "state").exists()


_KILLED = """
import os, signal, sys
from pathlib import Path
import keras, tensorflow as tf
from ppdl.protections.view import plain_view
from ppdl.training.fitting.fit import fit
from tests.training.toys import *

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 1:
            print("threads", tf.config.threading.get_intra_op_parallelism_threads(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

images, labels = images_and_labels()
fit(plain_view(images), labels, TRAIN_ROWS, VALIDATION_ROWS, model=TinyNet(), training=training(epochs=4, num_threads=1),
    num_classes=NUM_CLASSES, seed=7, state_dir=Path(sys.argv[1]) / "state", callbacks=[Kill()], progress=True)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The same training, killed in its third epoch by SIGKILL, with one thread."""
    folder = tmp_path_factory.mktemp("killed")
    env = os.environ | {"PYTHONPATH": str(PROJECT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.run([sys.executable, "-c", _KILLED, str(folder)], env=env, capture_output=True, text=True, timeout=300)
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
    return folder, process


def test_one_thread_when_asked_and_a_bar_with_images_a_second(killed):
    _, process = killed
    assert "threads 1" in process.stdout
    assert "epoch 1/4: 100%" in process.stderr and "img/s, loss" in process.stderr and "val_accuracy" in process.stderr


def test_a_changed_parameter_starts_over(killed, tmp_path, caplog):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/state.npz").write_bytes((killed[0] / "state/state.npz").read_bytes())
    result = run(tmp_path, training=training(epochs=4, learning_rate=9e-3))
    assert result.first_new_epoch == 0 and len(result.history) == 4
    assert "another configuration or other data: starting over" in caplog.text


def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_been(killed, whole):
    folder, _ = killed
    state = folder / "state/state.npz"
    torn = folder / "state/.state.partial.npz"
    torn.write_bytes(state.read_bytes()[:999])  # as a kill while writing leaves it
    epochs = []
    result = run(folder, training=training(epochs=4), on_epoch=lambda epoch, row: epochs.append(epoch))
    assert result.first_new_epoch == 2 and epochs == [2, 3]
    columns = ["epoch", "loss", "accuracy", "val_loss", "learning_rate"]
    np.testing.assert_allclose(result.history[columns], whole[0].history[columns], rtol=2e-2, atol=2e-2)
    assert not (folder / "state").exists()


def test_a_damaged_state_starts_over(tmp_path, caplog):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/state.npz").write_bytes(b"PK\x03\x04 not a state")
    result = run(tmp_path, training=training(epochs=1))
    assert result.first_new_epoch == 0
    assert "state.npz cannot be read" in caplog.text


def test_stops_when_validation_does_not_improve(tmp_path):
    # Validation labels are wrong, so that its loss rises while the network learns.
    labels = LABELS.copy()
    labels[VALIDATION_ROWS] = (labels[VALIDATION_ROWS] + 1) % NUM_CLASSES
    result = run(tmp_path, labels=labels, training=training(epochs=30, learning_rate=3e-2, early_stopping_patience=2))
    assert len(result.history) == result.best_epoch + 3 < 30


def test_on_epoch_ends_the_training(tmp_path):
    result = run(tmp_path, training=training(epochs=6), on_epoch=lambda epoch, row: epoch == 1)
    assert list(result.history["epoch"]) == [0, 1] and result.summary["num_epochs"] == 2
    assert not (tmp_path / "state").exists()


def test_class_weights_make_a_rare_class_count(tmp_path):
    # Images carry no signal. Unweighted, the network learns the class shares; weighted, that all classes are alike.
    labels = np.repeat([0, 1, 2], [96, 12, 12])[np.random.default_rng(0).permutation(NUM_IMAGES)]
    view = plain_view(np.full_like(IMAGES, 128))
    shares = {}
    for weights in (None, "balanced"):
        options = training(epochs=2, learning_rate=0.1, class_weights=weights, label_smoothing=0.0, augmentation=None)
        result = run(tmp_path, view=view, labels=labels, training=options)
        logits = predict_logits(result.model, view, VALIDATION_ROWS[:1], 16)[0]
        shares[weights] = np.exp(logits[0]) / np.exp(logits).sum()
    assert shares[None] > 0.65 and shares["balanced"] < 0.5


def test_a_loss_that_is_no_number_is_explained(tmp_path):
    with pytest.raises(
        ConfigError, match=r"training.learning_rate is too high: the loss became (nan|inf) in epoch \d .*Lower training.learning"
    ):
        run(tmp_path, training=training(learning_rate=1e30, warmup_epochs=0))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labels": LABELS[:-1]}, DataError, r"labels must be 120 integers, .* got \(119,\)"),
        ({"labels": LABELS.astype(float)}, DataError, r"labels must be 120 integers, .* float64"),
        ({"labels": LABELS + 1}, DataError, r"labels must lie in \[0, 3\), got 1 to 3"),
        ({"labels": np.minimum(LABELS, 1)}, DataError, "there is none of class 2"),
        ({"train": TRAIN_ROWS[:0]}, DataError, "the train split must be a list of at least one row number"),
        ({"validation": VALIDATION_ROWS[:0]}, DataError, "the validation split must be a list"),
        ({"validation": VALIDATION_ROWS + 1}, DataError, r"validation split must lie in \[0, 120\), got 91 to 120"),
        ({"train": np.append(TRAIN_ROWS, 0)}, DataError, "must not hold an image twice, got 1 repeated rows"),
        ({"validation": np.arange(88, 120)}, DataError, "2 are in both, the first is row 88"),
        ({"num_classes": 1}, ConfigError, "at least 2 classes, got 1"),
        ({"view": View("s", IMAGES, np.zeros((9, 1), np.float32), False, 1.0, 0.0)}, DataError, r"symbols must lie in \[0, 9\)"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_built(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        run(tmp_path, **changes)
    assert not (tmp_path / "state").exists()


def test_a_limit_on_threads_that_comes_too_late_is_said(caplog):
    keras.ops.add(1, 1)
    with caplog.at_level(logging.WARNING):
        set_num_threads(7)
    assert "training.num_threads=7 comes too late" in caplog.text
