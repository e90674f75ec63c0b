"""Every wrong parameter is refused with its rule and what was found."""

from __future__ import annotations

import pytest

from ppdl.config import CONF, construct
from ppdl.errors import ConfigError
from ppdl.training.networks.augment import Augmentation
from ppdl.training.networks.model import MobileNetV2
from tests.training.toys import training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0, "warmup_epochs": -1}, "epochs: must be >= 1, got 0"),
        ({"epochs": 2.5}, "epochs: must be an integer, got 2.5"),
        ({"epochs": True}, "epochs: must be an integer, got True"),
        ({"batch_size": 0}, "batch_size: must be >= 1, got 0"),
        ({"learning_rate": 0}, "learning_rate: must be > 0, got 0"),
        ({"learning_rate": "1e-3"}, "learning_rate: must be a number, got '1e-3'"),
        ({"learning_rate": float("nan")}, "learning_rate: must be a finite number, got nan"),
        ({"warmup_epochs": -1}, "warmup_epochs: must be >= 0, got -1"),
        ({"warmup_epochs": 3}, r"warmup_epochs must be less than epochs \(3\), got 3"),
        ({"weight_decay": -0.1}, "weight_decay: must be >= 0, got -0.1"),
        ({"label_smoothing": 1}, "label_smoothing: must be < 1, got 1"),
        ({"class_weights": "even"}, "class_weights: must be 'balanced', got 'even'"),
        ({"early_stopping_patience": 0}, "early_stopping_patience: must be >= 1, got 0"),
        ({"num_threads": 0}, "num_threads: must be >= 1, got 0"),
        ({"devices": 0}, "devices: must be >= 1, got 0"),
        ({"devices": 3}, "must leave each at least 8 images, got 16 with devices 3"),
        ({"augmentation": {"flip": True}}, "have the keys flip and shift and no others, got .'flip': True."),
        ({"augmentation": {"flip": True, "shift": 0, "zoom": 1}}, "no others, got .*zoom"),
        ({"augmentation": "flip"}, "augmentation must be null or .* got 'flip'"),
        ({"augmentation": {"flip": 1, "shift": 0}}, "augmentation.flip: must be a boolean, got 1"),
        ({"augmentation": {"flip": True, "shift": 0.5}}, "augmentation.shift: must be < 0.5, got 0.5"),
    ],
)
def test_training_refuses(changes, message):
    with pytest.raises(ConfigError, match=message):
        training(**changes)


MODEL = {"alpha": 0.35, "weights": None, "dropout": 0.2, "fine_tune_depth": None, "batchnorm_momentum": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0}, "alpha: must be > 0, got 0"),
        ({"alpha": "0.35"}, "alpha: must be a number, got '0.35'"),
        ({"alpha": 0.4, "weights": "imagenet"}, r"alpha must be one of \(0.35, .* with weights imagenet, got 0.4"),
        ({"dropout": 1.0}, "dropout: must be < 1, got 1.0"),
        ({"weights": 3}, "weights: must be a string, got 3"),
        ({"weights": ""}, "weights: .*at least 1 character, got ''"),
        ({"fine_tune_depth": -1, "weights": "imagenet"}, "fine_tune_depth: must be >= 0, got -1"),
        ({"fine_tune_depth": 3}, "fine_tune_depth needs weights to keep"),
        ({"batchnorm_momentum": 1.0}, "batchnorm_momentum: must be < 1, got 1.0"),
    ],
)
def test_model_refuses(changes, message):
    with pytest.raises(ConfigError, match=message):
        construct(MobileNetV2, MODEL | changes, "model")


def test_the_shipped_configuration_is_valid():
    from omegaconf import OmegaConf

    from ppdl.config import build

    assert build(OmegaConf.load(CONF / "training/default.yaml"), "training").augmenter == Augmentation(flip=True, shift=0.06)
    assert build(OmegaConf.load(CONF / "model/mobilenet_v2.yaml"), "model").weights is None
