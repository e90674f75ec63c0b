"""A network that has seen public films alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdl.protections.view import plain_view
from ppdl.training.fitting.fit import fit
from ppdl.training.fitting.settings import Training
from ppdl.training.networks.model import MobileNetV2

if TYPE_CHECKING:
    import keras

TRAINING = Training(
    epochs=12,
    batch_size=16,
    learning_rate=0.01,
    warmup_epochs=0.5,
    weight_decay=1e-4,
    label_smoothing=0.05,
    class_weights=None,
    augmentation={"flip": True, "shift": 0.06},
    early_stopping_patience=None,
    num_threads=None,
    devices=1,
)
VALIDATION_SHARE = 8  # one film of so many chooses the epoch


def train_on_public(films: np.ndarray, labels: np.ndarray, *, alpha: float, seed: int, state_dir: Path) -> keras.Model:
    """Train a narrow MobileNetV2 from scratch, shortly: it is to tell films apart, and not to be the best classifier.

    Args:
        films: (num_films, px, px) uint8. labels: (num_films,), the last films being of every class as well.
        state_dir: see `fit`.
    """
    rows, model = np.arange(len(films)), MobileNetV2(alpha=alpha, weights=None, dropout=0.2, fine_tune_depth=None, batchnorm_momentum=None)
    end = len(films) - len(films) // VALIDATION_SHARE
    return fit(
        plain_view(films),
        labels,
        rows[:end],
        rows[end:],
        model=model,
        training=TRAINING,
        num_classes=int(labels.max()) + 1,
        seed=seed,
        state_dir=state_dir,
        progress=False,
    ).model
