"""Images that are no films of a chest as the set has them: made of films, or drawn."""

from collections.abc import Callable

import numpy as np


def inverted(films: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the films with black and white exchanged, as a viewer shows MONOCHROME1 that it takes for MONOCHROME2."""
    return 255 - films


def turned(films: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return each film turned by a quarter to one side or the other."""
    turns = rng.choice([1, 3], len(films))
    return np.stack([np.rot90(film, turn) for film, turn in zip(films, turns, strict=True)])


def upside_down(films: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return each film turned by half."""
    return films[:, ::-1, ::-1].copy()


def empty_plate(films: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a plate each that nobody stood before: one gray level, a slight slope, and quantum noise."""
    num, height, width = films.shape
    level, slope = rng.uniform(10, 245, (num, 1, 1)), rng.uniform(-15, 15, (num, 1, 1))
    plate = level + slope * np.linspace(-1, 1, width) + rng.normal(0, 3, (num, height, width))
    return np.clip(np.rint(plate), 0, 255).astype(np.uint8)


def noise(films: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw pixels that know nothing of each other, all gray levels alike."""
    return rng.integers(0, 256, films.shape, np.uint8)


def hand(films: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the outline of a hand each, with bones, on black: a drawing, which looks like a film of a hand from afar."""
    return np.stack([_hand(films.shape[1], rng) for _ in range(len(films))])


Make = Callable[[np.ndarray, np.random.Generator], np.ndarray]
KINDS: dict[str, Make] = {
    "inverted": inverted,
    "turned": turned,
    "upside_down": upside_down,
    "empty_plate": empty_plate,
    "noise": noise,
    "hand": hand,
}


def _hand(px: int, rng: np.random.Generator) -> np.ndarray:
    axis = (np.arange(px) + 0.5) * (2 / px) - 1
    angle, scale = np.radians(rng.uniform(-25, 25)), rng.uniform(0.8, 1.1)
    x, y = axis[None] - rng.uniform(-0.1, 0.1), axis[:, None] - rng.uniform(-0.1, 0.1)
    u, v = (np.cos(angle) * x + np.sin(angle) * y) / scale, (np.cos(angle) * y - np.sin(angle) * x) / scale
    if rng.random() < 0.5:
        u = -u
    flesh = np.clip((0.42 - np.hypot(u, (v - 0.3) * 0.8)) / 0.06, 0, 1)
    bone = np.zeros((px, px))
    for finger, lean in enumerate(np.radians([-52, -18, -6, 6, 18])):
        length, base = (0.55, 0.78, 0.88, 0.82, 0.66)[finger], (-0.30, -0.24, -0.08, 0.08, 0.23)[finger]
        along = (u - base) * np.sin(lean) - (v - 0.1) * np.cos(lean)
        across = np.abs((u - base) * np.cos(lean) + (v - 0.1) * np.sin(lean))
        inside = np.clip(along / 0.1 + 1, 0, 1) * np.clip((length - along) / 0.06, 0, 1)
        flesh = np.maximum(flesh, np.clip((0.085 - across) / 0.03, 0, 1) * inside)
        joints = np.abs(np.sin(np.pi * (along / length * 3 + 0.02))) > 0.18
        bone = np.maximum(bone, np.clip((0.045 - across) / 0.02, 0, 1) * inside * joints)
    film = 20 + rng.uniform(60, 100) * flesh + rng.uniform(80, 120) * bone + rng.normal(0, 4, (px, px))
    return np.clip(np.rint(film), 0, 255).astype(np.uint8)
