"""Simulated test sets."""

from collections.abc import Callable

import numpy as np
import pytest

from ppdl.evaluation.predictions.predictions import Predictions


def simulate(num_images: int, num_classes: int = 3, *, seed: int = 0, skill: float = 2.0, group_size: int = 1) -> Predictions:
    """Return predictions whose true class has a logit that is larger by `skill` on average; groups follow one another."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) // group_size % num_classes
    logits = rng.normal(size=(num_images, num_classes)) + skill * np.eye(num_classes)[labels]
    return Predictions(
        labels=labels,
        logits=logits,
        groups=np.arange(num_images) // group_size,
        image_ids=np.array([f"image-{number}.png" for number in range(num_images)]),
        class_names=tuple("ABCDEFG"[:num_classes]),
    )


@pytest.fixture
def simulated() -> Callable[..., Predictions]:
    return simulate
