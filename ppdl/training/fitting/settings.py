"""How a network is trained: the parameters, and their rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ppdl.errors import ConfigError
from ppdl.training.networks.augment import Augmentation
from ppdl.training.networks.checks import check_integer, check_number

LEAST_PART = 8


@dataclass(frozen=True)
class Training:
    """Say how to train.

    Args:
        epochs: Number of passes over the training images.
        batch_size: Images a step.
        learning_rate: The highest, reached after the warm-up; from there half a cosine leads to zero.
        warmup_epochs: Length of the linear warm-up, may be a fraction; less than `epochs`.
        weight_decay: Decoupled (AdamW), on kernels alone.
        label_smoothing: Share of the target spread over all classes, in the losses of training and validation.
        class_weights: "balanced": the training loss weighs a class by the inverse of its number of images; None: all images alike.
        augmentation: `flip` and `shift`, see Augmentation; None: none.
        early_stopping_patience: Epochs without a lower validation loss after which training stops; None: never. Either way the weights
            of the epoch with the lowest are the result.
        num_threads: Of the Keras backend, see `set_num_threads`; None: all cores.
        batch_parts: Parts of a batch that are computed, and normalised by BatchNorm, on their own, see `InParts`: keeps as many cores
            busy. Whatever the number of threads, for it changes (a little) what is learned.
        devices: GPUs that share each batch, see `mirrored`; BatchNorm sees the part of each on its own, so it too changes a little.

    Raises:
        ConfigError: An argument breaks its rule.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: float
    weight_decay: float
    label_smoothing: float
    class_weights: str | None
    augmentation: Augmentation | Mapping[str, Any] | None
    early_stopping_patience: int | None
    num_threads: int | None
    batch_parts: int
    devices: int

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, least=1)
        check_integer("batch_size", self.batch_size, least=1)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("warmup_epochs", self.warmup_epochs, least=0)
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(f"warmup_epochs must be less than epochs ({self.epochs}), got {self.warmup_epochs}")
        check_number("weight_decay", self.weight_decay, least=0)
        check_number("label_smoothing", self.label_smoothing, least=0, below=1)
        if self.class_weights not in (None, "balanced"):
            raise ConfigError(f"class_weights must be balanced or null, got {self.class_weights!r}")
        check_integer("early_stopping_patience", self.early_stopping_patience, least=1, optional="never stop early")
        check_integer("num_threads", self.num_threads, least=1, optional="all cores")
        check_integer("batch_parts", self.batch_parts, least=1)
        if self.batch_parts > 1 and self.batch_size < LEAST_PART * self.batch_parts:
            rule = f"batch_parts must leave BatchNorm at least {LEAST_PART} images a part"
            raise ConfigError(f"{rule}, got {self.batch_parts} with batch_size {self.batch_size}")
        check_integer("devices", self.devices, least=1)
        if self.devices > 1 and self.batch_size < LEAST_PART * self.devices:
            rule = f"batch_size is shared out over the devices and must leave each at least {LEAST_PART} images"
            raise ConfigError(f"{rule}, got {self.batch_size} with devices {self.devices}")
        if self.devices > 1 and self.batch_parts > 1:
            raise ConfigError(f"batch_parts is for the cores of one CPU: it must be 1 with devices {self.devices}, got {self.batch_parts}")
        if isinstance(self.augmentation, Mapping):
            object.__setattr__(self, "augmentation", _augmentation(self.augmentation))
        elif not isinstance(self.augmentation, Augmentation | None):
            raise ConfigError(f"augmentation must be null or {{flip: ..., shift: ...}}, got {self.augmentation!r}")

    @property
    def augmenter(self) -> Augmentation | None:
        """Return `augmentation` as what the constructor made of it."""
        return self.augmentation if isinstance(self.augmentation, Augmentation) else None


def _augmentation(node: Mapping[str, Any]) -> Augmentation:
    if set(node) != {"flip", "shift"}:
        raise ConfigError(f"augmentation must have the keys flip and shift and no others, got {', '.join(map(str, node)) or 'none'}")
    return Augmentation(**node)
