"""A head that was trained on features which three classes differ in."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.private_head.fit import FittedHead, HeadFit, fit_head

NUM_FEATURES, NUM_IMAGES = 24, 300
CLASS_NAMES = ("COVID", "Normal", "Viral Pneumonia")
TRAIN, VALIDATION = np.arange(200), np.arange(200, NUM_IMAGES)


def toy_features(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return non-negative features (300, 24) float32 and labels (300,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(NUM_IMAGES) % 3
    centres = rng.uniform(0, 1.2, (3, NUM_FEATURES))
    return np.maximum(centres[labels] + rng.normal(0, 0.5, (NUM_IMAGES, NUM_FEATURES)), 0).astype(np.float32), labels


@pytest.fixture(scope="session")
def fitted() -> FittedHead:
    features, labels = toy_features()
    settings = HeadFit((0.01, 1.0, 100.0))
    return fit_head(features, labels, TRAIN, VALIDATION, settings=settings, class_names=CLASS_NAMES, backbone={"weights": "toy"})
