"""The other Keras backends train too, where they are installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from ppdl.config import PROJECT

_TRAIN = """
import sys
from pathlib import Path
import keras, numpy as np
from ppdl.protections.view import View
from ppdl.training.fitting.fit import fit
from ppdl.evaluation.insight.gradcam import grad_cam
from ppdl.training.networks.model import MobileNetV2
from ppdl.training.networks.predict import load_model, predict_logits, save_model
from tests.training.toys import images_and_labels, training

folder = Path(sys.argv[1])
images, labels = images_and_labels(num_images=48)
view = View("symbols", images, np.linspace(-1, 1, 256, dtype=np.float32)[:, None], True, 1.0, 0.0)
result = fit(view, labels, np.arange(32), np.arange(32, 48), model=MobileNetV2(0.35, None, 0.1, None, None),
             training=training(epochs=2, class_weights="balanced", num_threads=1), num_classes=3, seed=1, state_dir=folder / "state",
             progress=False)
assert keras.backend.backend() == sys.argv[2] and len(result.history) == 2
table = result.model.get_layer("table").get_weights()[0]
assert np.isfinite(table).all() and not np.array_equal(table, view.table), "the table did not learn"
save_model(result.model, folder / "model.keras")
logits = [predict_logits(m, view, np.arange(5), 4) for m in (result.model, load_model(folder / "model.keras"))]
np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-3)
features = keras.Model(result.model.inputs[0], result.model.get_layer("pool").input)(images[:5], training=False)
weights = result.model.get_layer("logits").get_weights()[0][:, 1]
expected = np.maximum(keras.ops.convert_to_numpy(features) @ weights, 0).reshape(5, 1)  # one cell at 32 pixels
np.testing.assert_allclose(grad_cam(result.model, images[:5], 1).max(axis=(1, 2)), np.ones(5) * (expected[:, 0] > 0), atol=1e-4)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_trains_on(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed, so KERAS_BACKEND={backend} cannot be tried")
    env = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(PROJECT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run([sys.executable, "-c", _TRAIN, str(tmp_path), backend], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
