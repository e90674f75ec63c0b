"""Small pictures in folders, made anew for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw(seed: int, size: tuple[int, int] = (40, 48)) -> np.ndarray:
    """Return a smooth picture, (height, width) uint8: pictures of different seeds look nothing alike."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.integers(-3, 4, size), 0, 255).astype(np.uint8)


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """Give `draw`."""
    return draw


@pytest.fixture
def write_classes(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes `root/CLASS/images/CLASS-NUMBER.png` for each class and number of images."""

    def write(root: str | Path = "root", **num_images: int) -> Path:
        for label, (name, count) in enumerate(num_images.items()):
            folder = tmp_path / root / name / "images"
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw(1000 * label + number)).save(folder / f"{name}-{number}.png")
        return tmp_path / root

    return write
