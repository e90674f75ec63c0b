"""A batch in parts, so that as many cores have something to do all the time.

Within one operation TensorFlow's threads wait for each other after every layer, and a MobileNetV2 step has some 500 operations of a
tenth of a millisecond: two threads that share each operation spend 40 % more CPU time than one, and stand still in between. The parts
of a batch need nothing of each other until their gradients are added up, so each core can take one (benchmarks/train.py).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class InParts(keras.Model):
    """Apply a network to equal parts of a batch, each on its own.

    BatchNorm normalises each part by itself, as it does on each of several GPUs (ghost batches, Hoffer et al. 2017, arXiv
    1705.08741). Its moving averages are then updated `num_parts` times a step; the momentum of its layers is set to that root, so
    that they move as far as before.

    Args:
        network: Model that this one takes over: its momenta change.
        num_parts: At least 2.
    """

    def __init__(self, network: keras.Model, num_parts: int) -> None:
        super().__init__(name="in_parts")
        self.network, self.num_parts = network, num_parts
        for layer in network._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = layer.momentum ** (1 / num_parts)

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Return what the network returns for (batch, ...) images, in order."""
        num_images = ops.shape(images)[0]
        size = (num_images + self.num_parts - 1) // self.num_parts
        # Where the number does not divide, parts overlap, so that none is empty or of another size; what is twice comes out once.
        starts = [i * (num_images - size) // (self.num_parts - 1) for i in range(self.num_parts)]
        outputs, end = [], 0
        for start in starts:
            outputs.append(self.network(images[start : start + size], training=training)[end - start :])
            end = start + size
        return ops.concatenate(outputs)
