"""The optimizer: the learning rate over a training, and AdamW on one flat vector, the numbers of Keras' from a much smaller graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


def warmup_cosine(learning_rate: float, warmup_steps: int, num_steps: int) -> keras.optimizers.schedules.CosineDecay:
    """Rise linearly to `learning_rate` in `warmup_steps` steps, then fall along half a cosine to zero after `num_steps`.

    The rise starts at learning_rate / warmup_steps, for a step at rate zero would be wasted.

    Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), eq. 5 without restarts; Goyal et al. 2017 (arXiv 1706.02677), section 2.2.
    """
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)
    return keras.optimizers.schedules.CosineDecay(
        learning_rate / warmup_steps,
        max(num_steps - warmup_steps, 1),
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
    )


class FlatAdamW(keras.optimizers.Optimizer):
    """Update all weights as one vector, with decoupled weight decay on kernels alone.

    MobileNetV2 has 158 trainable variables, and Keras' AdamW adds some 20 operations for each to the graph, which costs
    more to trace than the network itself. Biases, BatchNorm's scale and offset and tables of symbols do not decay: decay would pull
    them to a value that means nothing.

    Args:
        learning_rate: Number or schedule.
        weight_decay: As in keras.optimizers.AdamW: the share, times the learning rate, that a kernel loses in a step.

    Source: Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2; constants are those of keras.optimizers.AdamW.
    Cost: measured by benchmarks/train.py.
    """

    beta_1, beta_2, epsilon = 0.9, 0.999, 1e-7

    def __init__(self, learning_rate: Any, *, weight_decay: float) -> None:
        super().__init__(learning_rate=learning_rate, name="flat_adamw")
        self.kernel_decay = weight_decay  # `weight_decay` itself would make Keras decay each variable on its own

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the state for `variables`, whose order is kept."""
        if self.built:
            return
        super().build(variables)
        sizes = [int(np.prod(v.shape)) for v in variables]
        self._ends = np.cumsum(sizes)[:-1].tolist()
        decays = [self.kernel_decay if v.name == "kernel" else 0.0 for v in variables]
        self._decay = np.repeat(np.asarray(decays, np.float32), sizes)
        self.momentum = self.add_variable((sum(sizes),), name="momentum")
        self.velocity = self.add_variable((sum(sizes),), name="velocity")

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Make one step. `trainable_variables` must be those that the optimizer was built with, in that order."""
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        variables = self._trainable_variables
        gradient, weights = _flat(grads), _flat(variables)
        step = ops.cast(self.iterations + 1, "float32")
        rate = ops.cast(self.learning_rate, "float32")
        momentum = self.momentum + (gradient - self.momentum) * (1 - self.beta_1)
        velocity = self.velocity + (ops.square(gradient) - self.velocity) * (1 - self.beta_2)
        corrected = rate * ops.sqrt(1 - ops.power(self.beta_2, step)) / (1 - ops.power(self.beta_1, step))
        if self.kernel_decay:
            weights = weights - weights * (rate * self._decay)
        weights = weights - momentum * corrected / (ops.sqrt(velocity) + self.epsilon)
        self.momentum.assign(momentum)
        self.velocity.assign(velocity)
        parts = ops.split(weights, self._ends) if self._ends else [weights]
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(ops.reshape(part, variable.shape))
        self.iterations.assign_add(1)


def _flat(tensors: Sequence[Any]) -> Any:
    # The gradient of a table comes as sparse slices in TensorFlow, and reshape makes it dense. (Keras' AdamW squares the slices one by
    # one instead, so that a symbol's step depends on how often it occurs in a batch.)
    return ops.concatenate([ops.reshape(t, (-1,)) for t in tensors])
