"""A small network from a view back to the image, trained on public images alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_DEPTH, _WIDTH = 3, 24  # hidden layers, and channels of each: small enough for a CPU
_CROP = 32  # side, in patches, of what training sees of an image at a time, at a random place
_PATIENCE = 4  # passes without a better rebuild of the held-out images before training stops
_BATCH = 16
_RATE = 0.003  # of Adam, falling to zero by a cosine


@dataclass(frozen=True)
class Decoder:
    """Correct a linear estimate by some 3 x 3 convolutions at the view's resolution; pixels of a patch are channels (pixel shuffle).

    The last convolution starts at zero, so that training starts at the linear estimate, and stops where images that were held out are
    rebuilt best: on public images the network is never worse than its start.

    Args:
        max_epochs: passes over the public images at most.

    Source: W. Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural network",
    CVPR 2016.
    """

    max_epochs: int

    def fit(
        self, inputs: Sequence[np.ndarray], starts: Sequence[np.ndarray], patches: np.ndarray, num_train: int, rng: np.random.Generator
    ) -> Callable[[int, np.ndarray, np.ndarray], np.ndarray]:
        """Train on several noise levels of the same views at once, each in units of what its linear estimate misses.

        Args:
            inputs: for each level, (num_images, height, width, channels) float32.
            starts: for each level, the linear estimate, of the shape of `patches`.
            patches: the images, (num_images, height, width, stride * stride) float32.
            num_train: images from here on are held out.
            rng: of initial weights and order.

        Returns:
            A function from level, inputs and start to patches.

        Cost: about 0.1 ms of one core for each image, pass, and 1,000 numbers of a hidden layer.
        """
        levels = [np.concatenate(pair, -1) for pair in zip(inputs, starts, strict=True)]
        missing = [patches - start for start in starts]
        scales = [max(float(part[:num_train].std()), 1e-6) for part in missing]
        missing = [part / scale for part, scale in zip(missing, scales, strict=True)]
        model = self._build(levels[0].shape[-1], patches.shape[-1], rng)
        middle = tuple(slice(max(0, (side - _CROP) // 2), (side + _CROP) // 2) for side in patches.shape[1:3])
        held, wanted = (np.concatenate([part[num_train:][:, *middle] for part in parts]) for parts in (levels, missing))
        best, weights, waited = float(np.mean(wanted**2)), model.get_weights(), 0
        num_batches = -(-num_train // _BATCH)
        for epoch in range(self.max_epochs):
            order = rng.permutation(num_train)
            for batch in range(num_batches):
                model.optimizer.learning_rate = self._rate((epoch + batch / num_batches) / self.max_epochs)
                rows = order[batch * _BATCH : (batch + 1) * _BATCH]
                model.train_on_batch(*self._crops(levels, missing, rows, rng))
            error = float(np.mean((self._predict(model, held) - wanted) ** 2))
            if error < best:
                best, weights, waited = error, model.get_weights(), 0
            elif (waited := waited + 1) >= _PATIENCE:
                break
        model.set_weights(weights)
        return lambda level, seen, start: start + scales[level] * self._predict(model, np.concatenate([seen, start], -1))

    def _crops(
        self, levels: Sequence[np.ndarray], missing: Sequence[np.ndarray], rows: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw a noise level and a place for each row."""
        height, width = (min(side, _CROP) for side in levels[0].shape[1:3])
        inputs, outputs = [], []
        for row in rows:
            level = int(rng.integers(len(levels)))
            y, x = rng.integers(levels[0].shape[1] - height + 1), rng.integers(levels[0].shape[2] - width + 1)
            inputs.append(levels[level][row, y : y + height, x : x + width])
            outputs.append(missing[level][row, y : y + height, x : x + width])
        return np.stack(inputs), np.stack(outputs)

    def _rate(self, progress: float) -> float:
        return float(_RATE * 0.5 * (1 + np.cos(np.pi * progress)))

    def _predict(self, model: Any, inputs: np.ndarray) -> np.ndarray:
        return np.concatenate([np.asarray(model.predict_on_batch(inputs[i : i + _BATCH])) for i in range(0, len(inputs), _BATCH)])

    def _build(self, num_inputs: int, num_outputs: int, rng: np.random.Generator) -> Any:
        import keras

        layers = [keras.Input((None, None, num_inputs))]
        for _ in range(_DEPTH):
            start = keras.initializers.HeNormal(seed=int(rng.integers(1 << 31)))
            layers.append(keras.layers.Conv2D(_WIDTH, 3, padding="same", activation="relu", kernel_initializer=start))
        layers.append(keras.layers.Conv2D(num_outputs, 3, padding="same", kernel_initializer="zeros"))
        model = keras.Sequential(layers, name="decoder")
        model.compile(optimizer=keras.optimizers.Adam(_RATE), loss="mse", jit_compile=False)
        return model
