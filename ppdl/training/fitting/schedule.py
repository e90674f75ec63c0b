"""The learning rate over a training."""

from __future__ import annotations

import keras


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
