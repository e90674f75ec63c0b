"""Random numbers for the phantom that are the same on every platform and NumPy version.

NumPy may change how a distribution is drawn between versions (NEP 19), but PCG64's bits and `Generator.random`, which scales them, stay.
So everything is made of uniforms.
"""

import numpy as np


class Draw:
    """Draw from one stream, a function of the key alone: neither the number of images nor the order of work changes it."""

    def __init__(self, seed: int, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))

    def between(self, low: float, high: float) -> float:
        """Return a uniform number in [low, high)."""
        return low + (high - low) * self._generator.random()

    def many(self, low: float, high: float, shape: int | tuple[int, ...]) -> np.ndarray:
        """Return an array of uniform numbers in [low, high)."""
        return low + (high - low) * self._generator.random(shape)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._generator.random() < probability

    def noise(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return nearly normal noise of mean 0 and variance 1: a scaled sum of three uniforms."""
        u = self._generator.random((3, *shape))
        return 2.0 * (u[0] + u[1] + u[2]) - 3.0
