"""What fills the phantom's lungs: vessels, and the finding that makes the class.

A finding adds attenuation inside the lungs only and draws from streams of its own: everything else on the film is drawn alike for every
class, so that nothing but the finding tells the classes apart.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from ppdl.datasets.phantoms.anatomy import Chest, bump, ellipse, ramp, smooth_noise
from ppdl.datasets.phantoms.random import Draw

_CALIBRES = ((2.6, 0.100), (1.5, 0.075), (0.9, 0.050))  # of vessels: standard deviation in pixels of a 299 px film, attenuation


def _splat(chest: Chest, u: np.ndarray, v: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Drop points on the film, each shared between the four pixels round it."""
    turn, shift_x, shift_y, scale = chest.pose
    c, s, size = scale * math.cos(turn), scale * math.sin(turn), chest.size_px
    x = np.clip((c * u - s * v + shift_x + 1.0) * size / 2.0 - 0.5, 0.0, size - 1.001)
    y = np.clip((s * u + c * v + shift_y + 1.0) * size / 2.0 - 0.5, 0.0, size - 1.001)
    column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    x, y, film = x - column, y - row, np.zeros(size * size)
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = weights * (y if down else 1.0 - y) * (x if across else 1.0 - x)
        film += np.bincount(((row + down) * size + column + across).ravel(), share.ravel(), size * size)
    return film.reshape(size, size).astype(np.float32)


def _grow(draw: Draw, u: np.ndarray, v: np.ndarray, angle: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grow one curved branch from each root: coordinates and headings along it, each (num_branches, 48)."""
    t = np.linspace(0.0, 1.0, 48)
    heading = angle[:, None] + draw.many(-0.5, 0.5, len(u))[:, None] * t
    step = length[:, None] / 47.0
    return u[:, None] + np.cumsum(step * np.cos(heading), 1), v[:, None] + np.cumsum(step * np.sin(heading), 1), heading


def vessels(chest: Chest, patient: Draw) -> np.ndarray:
    """Return the hila and the vessels that branch from them, thinner as they go."""
    points: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[], [], []]
    strength, hila = patient.between(0.4, 0.8), np.zeros_like(chest.u)
    for side in (-1.0, 1.0):
        root_u, root_v = patient.between(0.13, 0.17), chest.apex + patient.between(0.55, 0.60) + 0.04 * (side < 0)
        hila += patient.between(0.06, 0.14) * bump(ellipse(side * chest.u, chest.v, (root_u + 0.03, root_v + 0.06), (0.10, 0.20), 20.0))
        angle = np.linspace(-1.45, 1.40, 9) + patient.many(-0.15, 0.15, 9)
        u, v, length = np.full(9, root_u), root_v + 0.09 * angle, patient.many(0.38, 0.56, 9)
        for depth, children in enumerate((3, 3, 0)):
            branch_u, branch_v, heading = _grow(patient, u, v, angle, length)
            taper = np.broadcast_to(np.linspace(1.0, 0.25, 48), branch_u.shape) * length[:, None]
            points[depth].append((side * branch_u, branch_v, taper))
            if not children:
                break
            parent = np.repeat(np.arange(len(u)), children)
            at = (patient.many(0.15, 0.95, len(parent)) * 47.0).astype(int)
            turn = patient.many(0.35, 0.85, len(parent)) * np.where(np.arange(len(parent)) % 2, 1.0, -1.0)
            u, v, angle = branch_u[parent, at], branch_v[parent, at], heading[parent, at] + turn
            length = length[parent] * patient.many(0.35, 0.6, len(parent))
    film = strength * hila
    for (deviation, attenuation), layer in zip(_CALIBRES, points, strict=True):
        u, v, taper = (np.concatenate([part[i] for part in layer]) for i in range(3))
        sigma = deviation * chest.size_px / 299.0
        weight = strength * attenuation * sigma * math.sqrt(2.0 * math.pi) * taper / 47.0 * chest.size_px / 2.0
        film += ndimage.gaussian_filter(_splat(chest, u, v, weight * 1.6), sigma, truncate=3.0)
    return film * chest.lungs * (1.0 - 0.7 * chest.heart)


def _haze(chest: Chest, draw: Draw, centre: tuple[float, float], axes: tuple[float, float], degrees: float, ragged: float) -> np.ndarray:
    """Return a cloud with a ragged outline, 0 to 1."""
    radius = ellipse(chest.u, chest.v, centre, axes, degrees)
    return ramp(1.0 - radius + ragged * smooth_noise(draw, 12, chest.size_px), 0.55)


def nothing(chest: Chest, patient: Draw, image: Draw) -> np.ndarray:
    """Return clear lungs."""
    return np.zeros_like(chest.u)


def ground_glass(chest: Chest, patient: Draw, image: Draw) -> np.ndarray:
    """Return bilateral hazy patches along the pleura, mostly low: COVID-19 pneumonia."""
    severity = patient.between(0.25, 0.50) * image.between(0.9, 1.1)
    clear = np.ones_like(chest.u)
    for side in (-1.0, 1.0):
        for _ in range(2 + patient.chance(0.6)):
            level = 0.95 - 0.75 * patient.between(0.0, 1.0) ** 1.3
            centre_v = chest.apex + level * (chest.base - chest.apex)
            centre_u = side * (chest.half_width * (0.72 + 0.28 * min(1.0, 1.6 * level)) - patient.between(0.08, 0.14))
            axes = patient.between(0.12, 0.20), patient.between(0.17, 0.30)
            clear *= 1.0 - _haze(chest, image, (centre_u, centre_v), axes, side * patient.between(-25.0, 10.0), 0.22)
    texture = 1.0 + 0.22 * smooth_noise(image, 40, chest.size_px)
    return severity * (1.0 - clear) * texture * chest.lungs


def consolidation(chest: Chest, patient: Draw, image: Draw) -> np.ndarray:
    """Return one dense patch in one lung, of a lobe's part: focal opacity."""
    severity = patient.between(0.44, 0.66) * image.between(0.9, 1.1)
    side = 1.0 if patient.chance(0.5) else -1.0
    level = patient.between(0.25, 0.88)
    centre = side * patient.between(0.28, 0.48), chest.apex + level * (chest.base - chest.apex)
    axes = patient.between(0.18, 0.27), patient.between(0.16, 0.25)
    patch = _haze(chest, image, centre, axes, patient.between(-40.0, 40.0), 0.24)
    if patient.chance(0.4):  # bounded by a fissure: sharp below or above
        edge = chest.v - centre[1] - 0.15 * side * (chest.u - centre[0]) - 0.05
        patch *= ramp(-edge if patient.chance(0.6) else edge + 0.1, 0.02)
    bronchogram = 1.0 - 0.30 * bump(smooth_noise(image, 14, chest.size_px) / 0.30)
    return severity * patch * bronchogram * (1.0 + 0.12 * smooth_noise(image, 30, chest.size_px)) * chest.lungs


def interstitial(chest: Chest, patient: Draw, image: Draw) -> np.ndarray:
    """Return a net of fine lines and faint nodules through both lungs: viral pneumonia."""
    severity = patient.between(0.22, 0.38) * image.between(0.9, 1.1)
    net = bump(smooth_noise(image, 46, chest.size_px) / 0.8) + bump(smooth_noise(image, 66, chest.size_px) / 0.8)
    nodules = np.maximum(smooth_noise(image, 44, chest.size_px) - 0.5, 0.0)
    spread = np.clip(0.8 + 0.25 * smooth_noise(image, 6, chest.size_px), 0.3, 1.3)
    cuffs = vessels(chest, patient)  # thickened bronchi run with the vessels
    return severity * (spread * (0.35 * net + 0.6 * nodules + 0.35) * chest.lungs + 3.5 * cuffs)


Finding = Callable[[Chest, Draw, Draw], np.ndarray]
FINDINGS: dict[str, Finding] = {
    "COVID": ground_glass,
    "Lung_Opacity": consolidation,
    "Normal": nothing,
    "Viral Pneumonia": interstitial,
}
