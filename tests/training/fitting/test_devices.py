"""One training on two devices: two logical CPUs, which TensorFlow makes before it starts alone, so in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ppdl.config import PROJECT
from ppdl.errors import ConfigError
from ppdl.training.fitting.devices import mirrored

_TRAIN = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from ppdl.protections.view import plain_view
from ppdl.training.fitting.fit import fit
from ppdl.training.networks.predict import load_model, predict_logits, save_model
from tests.training.toys import TRAIN_ROWS, VALIDATION_ROWS, TinyNet, images_and_labels, training

folder = Path(sys.argv[1])
images, labels = images_and_labels()
np.save(folder / "images.npy", images)
view = plain_view(np.load(folder / "images.npy", mmap_mode="r"))

def train(devices, name, **more):
    values = training(epochs=6, devices=devices, class_weights="balanced", learning_rate=3e-2)
    return fit(view, labels, TRAIN_ROWS, VALIDATION_ROWS, model=TinyNet(dropout=0.0), training=values, num_classes=3, seed=1,
               state_dir=folder / name, progress=False, **more)

class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt

found = {}
for devices in (1, 2):
    result = train(devices, f"whole{devices}")
    found[f"history{devices}"] = {name: result.history[name].tolist() for name in ("loss", "val_loss", "val_accuracy")}
try:
    train(2, "cut", callbacks=[Stop()])
except KeyboardInterrupt:
    resumed = train(2, "cut")
found["first_new_epoch"], found["resumed"] = resumed.first_new_epoch, resumed.history["val_loss"].tolist()
save_model(result.model, folder / "model.keras")
logits = [predict_logits(m, view, VALIDATION_ROWS, 16) for m in (result.model, load_model(folder / "model.keras"))]
np.testing.assert_array_equal(*logits)
found["accuracy"] = float((logits[0].argmax(1) == labels[VALIDATION_ROWS]).mean())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    env = os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(PROJECT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", _TRAIN, str(tmp_path_factory.mktemp("devices"))]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_two_devices_learn_what_one_does(found):
    """Not the same to the digit, since BatchNorm sees the halves of a batch on their own, yet close in every epoch, and as good."""
    one, two = found["history1"], found["history2"]
    assert len(two["loss"]) == 6
    assert all(abs(a - b) < 0.2 for a, b in zip(one["loss"], two["loss"], strict=True))
    assert two["loss"][-1] < 0.7 * two["loss"][0]
    assert min(two["val_loss"]) < min(one["val_loss"]) + 0.15
    assert found["accuracy"] == two["val_accuracy"][two["val_loss"].index(min(two["val_loss"]))]


def test_an_interrupted_training_goes_on(found):
    assert found["first_new_epoch"] == 2
    assert found["resumed"] == pytest.approx(found["history2"]["val_loss"], abs=0.02)


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(ConfigError, match=r"training\.devices must be at most 1, the devices that TensorFlow finds here \(CPU:0\), got 64"):
        mirrored(64)
