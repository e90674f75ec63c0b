"""A short training from scratch evaluates well, and it is BatchNorm's momentum that decides it."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.protections.view import plain_view
from ppdl.training.fitting.fit import fit
from ppdl.training.networks.model import MobileNetV2
from tests.training.toys import NUM_CLASSES, images_and_labels, training


def test_momentum_decides_whether_a_short_training_from_scratch_evaluates_well(tmp_path):
    images, labels = images_and_labels(num_images=144, noise=5)
    history = {}
    for momentum in (None, 0.999):
        model = MobileNetV2(alpha=0.35, weights=None, dropout=0.0, fine_tune_depth=None, batchnorm_momentum=momentum)
        options = training(epochs=10, learning_rate=5e-3, augmentation=None)
        result = fit(
            plain_view(images),
            labels,
            np.arange(96),
            np.arange(96, 144),
            model=model,
            training=options,
            num_classes=NUM_CLASSES,
            seed=1,
            state_dir=tmp_path / "state",
            progress=False,
        )
        history[momentum] = result.history.iloc[-1]
    # The moving averages play no part in training, so both learn the same ...
    assert history[None]["loss"] == pytest.approx(history[0.999]["loss"], abs=0.1)
    assert min(h["accuracy"] for h in history.values()) > 0.9
    # ... and evaluate apart.
    assert history[None]["val_accuracy"] > 0.65
    assert history[0.999]["val_accuracy"] < 0.45
