"""How a network is trained: the parameters, and their rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ppdl.errors import ConfigError
from ppdl.records.typecheck import Count, Fraction, NotNegative, Positive, check_types
from ppdl.training.networks.augment import Augmentation

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
        num_threads: Of TensorFlow, see `set_num_threads`; None: all cores.
        devices: GPUs that share each batch, see `mirrored`; BatchNorm sees the part of each on its own, which changes a little what is
            learned.

    Raises:
        ConfigError: An argument breaks its rule.
    """

    epochs: Count
    batch_size: Count
    learning_rate: Positive
    warmup_epochs: NotNegative
    weight_decay: NotNegative
    label_smoothing: Fraction
    class_weights: Literal["balanced"] | None
    augmentation: Mapping[str, Any] | None
    early_stopping_patience: Count | None
    num_threads: Count | None
    devices: Count

    def __post_init__(self) -> None:
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(f"warmup_epochs must be less than epochs ({self.epochs}), got {self.warmup_epochs}")
        if self.devices > 1 and self.batch_size < LEAST_PART * self.devices:
            rule = f"batch_size is shared out over the devices and must leave each at least {LEAST_PART} images"
            raise ConfigError(f"{rule}, got {self.batch_size} with devices {self.devices}")
        _ = self.augmenter

    @property
    def augmenter(self) -> Augmentation | None:
        """Return what `augmentation` describes.

        Raises:
            ConfigError: it describes none.
        """
        node = self.augmentation
        if node is None:
            return None
        if not isinstance(node, Mapping) or set(node) != {"flip", "shift"}:
            raise ConfigError(f"augmentation must be null or have the keys flip and shift and no others, got {node!r}")
        check_types(Augmentation, node, "augmentation")
        return Augmentation(**node)
