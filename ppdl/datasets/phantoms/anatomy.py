"""A synthetic chest in front of a film: thickness maps of its parts, added up as X-rays add up attenuation.

Coordinates: u to the right and v down, both -1 at one edge of the film and 1 at the other; patient's right is on the left, as radiologists
hang a film. A map is float64 (size_px, size_px), in units of the attenuation of the middle of the trunk. Edges are cubic ramps and bumps
are polynomials, so that nearly all arithmetic is exactly rounded and a pixel is the same on every platform.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from ppdl.datasets.phantoms.random import Draw


def ramp(distance: np.ndarray, width: float) -> np.ndarray:
    """Rise smoothly from 0 to 1 while `distance` goes from -width to width."""
    t = distance * (0.5 / width)
    t += 0.5
    np.clip(t, 0.0, 1.0, out=t)
    rise = t * -2.0
    rise += 3.0
    rise *= t
    rise *= t
    return rise


def bump(q: np.ndarray) -> np.ndarray:
    """Return a smooth hill: 1 at q = 0, 0 from |q| = 1 on."""
    t = q * q
    np.subtract(1.0, t, out=t)
    np.maximum(t, 0.0, out=t)
    t *= t
    return t


def ellipse(u: np.ndarray, v: np.ndarray, centre: tuple[float, float], axes: tuple[float, float], degrees: float = 0.0) -> np.ndarray:
    """Return the normalised radius from the centre of a turned ellipse: below 1 inside."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    p = u * (c / axes[0])
    p += v * (s / axes[0])
    p -= (c * centre[0] + s * centre[1]) / axes[0]
    p *= p
    q = v * (c / axes[1])
    q -= u * (s / axes[1])
    q -= (c * centre[1] - s * centre[0]) / axes[1]
    q *= q
    p += q
    return np.sqrt(p, out=p)


@functools.lru_cache(maxsize=16)
def _spline_basis(num_knots: int, size_px: int) -> np.ndarray:
    """Return uniform cubic B-spline weights, (size_px, num_knots + 3)."""
    x = (np.arange(size_px) + 0.5) * num_knots / size_px
    first, t = np.floor(x).astype(int), x - np.floor(x)
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    basis = np.zeros((size_px, num_knots + 3))
    for k in range(4):
        basis[np.arange(size_px), first + k] = weights[:, k]
    return basis


def smooth_noise(draw: Draw, num_knots: int, size_px: int) -> np.ndarray:
    """Return smooth noise of about unit variance whose grains are about 2 / num_knots wide."""
    basis = _spline_basis(num_knots, size_px)
    return (basis @ draw.noise((num_knots + 3, num_knots + 3)) @ basis.T / 0.48).astype(
        np.float32
    )  # 0.48: what the spline leaves of the deviation


@dataclass(frozen=True)
class Chest:
    """Where things are on one film.

    Attributes:
        u, v: Coordinates in the patient's frame.
        a: |u|, the distance from the midline.
        left: Whether a pixel is on the patient's left (the film's right).
        wall: How far inside the lateral chest wall a pixel is.
        level: 0 at the lung's apex, 1 at the top of the diaphragm.
        lungs: The lungs, 0 to 1, in front of everything but the diaphragm and the mediastinum.
        heart: The heart, 0 to 1.
        dome: v of the diaphragm.
        pose: (turn in radians, shift u, shift v, scale): the patient's frame on the film.
    """

    u: np.ndarray
    v: np.ndarray
    a: np.ndarray
    left: np.ndarray
    wall: np.ndarray
    level: np.ndarray
    lungs: np.ndarray
    heart: np.ndarray
    dome: np.ndarray
    half_width: float
    apex: float
    base: float
    pose: tuple[float, float, float, float]

    @property
    def size_px(self) -> int:
        return self.u.shape[0]


def _rise(t: np.ndarray) -> np.ndarray:
    """Return the outline of a lung from apex (0) to base (1): steep at first, then flat."""
    t = np.clip(t, 0.0, 1.0)
    return np.sqrt(1.0 - (1.0 - t) ** 2 * (1.0 - 0.35 * t))


def place(patient: Draw, image: Draw, size_px: int) -> Chest:
    """Pose a patient in front of the film and lay out lungs, heart and diaphragm."""
    turn, scale = math.radians(image.between(-3.0, 3.0)), patient.between(0.88, 1.06) * image.between(0.98, 1.02)
    shift = image.between(-0.05, 0.05), image.between(-0.05, 0.05)
    axis = ((np.arange(size_px) + 0.5) * (2.0 / size_px) - 1.0).astype(np.float32)
    x, y = axis[None, :] - shift[0], axis[:, None] - shift[1]
    c, s = math.cos(turn) / scale, math.sin(turn) / scale
    u = c * x + s * y + 0.012 * smooth_noise(patient, 3, size_px)
    v = c * y - s * x + 0.012 * smooth_noise(patient, 3, size_px)
    a, left = np.abs(u), u > 0.0

    half_width, apex = patient.between(0.60, 0.71), patient.between(-0.76, -0.68)
    base = patient.between(0.26, 0.44) + image.between(-0.05, 0.05)  # how deep the breath was
    level = (v - apex) / (base - apex)
    tip, middle = patient.between(0.24, 0.29), patient.between(0.10, 0.13)
    outline = _rise(level / 1.15)
    wall = tip + (half_width - tip) * outline - a
    knob = patient.between(0.04, 0.08) * bump((v - apex - 0.40) / 0.11)
    trunk = patient.between(0.02, 0.05) * bump((v - apex - 0.56) / 0.13)
    inner = a - (tip - (tip - middle) * _rise(3.0 * level)) - np.where(left, knob + trunk, np.float32(0.015))
    arch = patient.between(0.10, 0.16)
    away = (a - 0.52 * half_width) / (0.50 * half_width)
    dome = (
        base + patient.between(0.03, 0.07) * left.astype(np.float32) + arch * away * away * (0.45 + 0.55 * (away > 0.0).astype(np.float32))
    )
    edge = 0.014
    lungs = ramp(wall, edge) * ramp(inner, 0.018) * ramp(dome - v, edge) * ramp(v - apex, 0.02)

    size = patient.between(0.85, 1.12)
    ventricle = ellipse(u, v, (0.135, base - 0.09), (0.33 * size, 0.215 * size), patient.between(34.0, 48.0))
    atrium = ellipse(u, v, (-0.045, base - 0.07), (0.125 * size, 0.22 * size))
    waist = ellipse(u, v, (0.05, base - 0.33), (0.14 * size, 0.24))
    heart = np.maximum(np.maximum(ramp(1.0 - ventricle, 0.07), ramp(1.0 - atrium, 0.12)), ramp(1.0 - waist, 0.14))
    return Chest(u, v, a, left, wall, level, lungs, heart, dome, half_width, apex, base, (turn, *shift, scale))


def _fourth(x: np.ndarray) -> np.ndarray:
    x = x * x  # products are exactly rounded, powers need not be
    return x * x


def soft_tissue(chest: Chest, patient: Draw) -> np.ndarray:
    """Return trunk, neck, shoulders, breasts and abdomen, less the air in lungs, trachea and stomach."""
    u, v, a = chest.u, chest.v, chest.a
    flank = chest.half_width + patient.between(0.12, 0.26)
    side = (a / flank) ** 2
    trunk = np.sqrt(np.clip(1.0 - side * side, 0.0, 1.0)) * ramp(v + 0.72 - 0.10 * a, 0.24)
    neck = 0.78 * np.sqrt(np.clip(1.0 - (a / 0.25) ** 2, 0.0, 1.0))
    top = -1.0 + patient.between(0.10, 0.26) * a + 0.22 * a * a * a
    shoulder = patient.between(0.60, 0.74) * ramp(v - top, 0.09) * ramp(-0.12 - v + 0.4 * (a - 0.8), 0.26) * ramp(1.06 - a + 0.1 * v, 0.12)
    armpit, spread = patient.between(0.90, 1.02), patient.between(0.02, 0.16)
    limb = (a - armpit - spread * (v + 0.4)) / 0.15
    arm = 0.58 * np.sqrt(np.clip(1.0 - limb * limb, 0.0, 1.0)) * ramp(v + 0.36, 0.22)
    body = np.sqrt(np.sqrt(_fourth(trunk) + _fourth(neck) + _fourth(shoulder) + _fourth(arm)))
    fat = patient.between(0.88, 1.08)
    air = chest.lungs * (0.30 + 0.70 * np.clip(chest.wall / 0.16, 0.0, 1.0) ** 0.5) * (1.0 - 0.86 * chest.heart)
    tissue = fat * body - patient.between(0.54, 0.66) * air
    tissue += 0.14 * ramp(v - chest.dome, 0.03) * ramp(flank - a, 0.1)
    trachea = bump((u + 0.012 - 0.02 * ramp(v + 0.6, 0.3)) / 0.052) * ramp(chest.apex + 0.40 - v, 0.04)
    fork = bump((a - 0.02 - 0.75 * (v - chest.apex - 0.38)) / 0.05) * bump((v - chest.apex - 0.45) / 0.10)
    tissue -= 0.26 * trachea + 0.10 * fork
    if patient.chance(0.75):
        bubble = ellipse(
            u, v, (patient.between(0.24, 0.36), chest.base + 0.20), (patient.between(0.07, 0.16), patient.between(0.05, 0.08)), -12.0
        )
        tissue -= patient.between(0.15, 0.35) * ramp(1.0 - bubble, 0.18)
    if patient.chance(0.4):
        centre = patient.between(0.38, 0.46), chest.base - patient.between(0.12, 0.24)
        breast = np.maximum(1.0 - ellipse(a, v, centre, (0.26, patient.between(0.18, 0.24))), 0.0)
        tissue += patient.between(0.08, 0.16) * np.sqrt(breast) * ramp(v - centre[1] + 0.05, 0.15)
    return tissue


def _ribs(chest: Chest, drop: float, spacing: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return one face of the rib cage (drop > 0: the back) and how far along a pixel is, 1 at the midline and 0 at the flank.

    A rib is half an ellipse on the film. Its number is continuous in the place, so that one evaluation draws all of them.
    """
    bend = chest.v
    for _ in range(2):  # the cage's width depends on the rib's level, which depends on the width
        cage = 0.20 + (chest.half_width - 0.16) * _rise((bend - chest.apex + 0.06) / (chest.base - chest.apex))
        along = np.sqrt(np.clip(1.0 - (chest.a / cage) ** 2, 0.0, 1.0))
        bend = chest.v + drop * along
    step = 2.0 / chest.size_px * chest.pose[3]
    dv, du = np.gradient(bend, step)
    number = bend / spacing
    across = (np.abs(number - np.floor(number) - 0.5)) * spacing / np.sqrt(du * du + dv * dv) / radius
    rib = ramp(1.0 - across, 0.30) * (0.62 + 0.50 * np.minimum(across, 1.0) ** 2)
    return rib * ramp(cage - chest.a, 0.02) * ramp(chest.v - chest.apex + 0.05, 0.08), along


def bones(chest: Chest, patient: Draw) -> np.ndarray:
    """Return ribs, spine, clavicles, scapulae and the heads of the humeri."""
    v, a = chest.v, chest.a
    density, spacing = patient.between(0.75, 1.25), patient.between(0.122, 0.142)
    radius = patient.between(0.19, 0.25) * spacing
    back, _ = _ribs(chest, patient.between(0.22, 0.30), spacing, radius)
    front, along = _ribs(chest, -patient.between(0.26, 0.36), spacing, 1.15 * radius)
    cage = 0.115 * back * ramp(a - 0.05, 0.04) + 0.060 * front * ramp(0.82 - along, 0.10)
    cage *= ramp(chest.base + 0.35 - v, 0.2)

    vertebra = v / 0.118 + patient.between(0.0, 1.0)
    phase = np.abs(vertebra - np.floor(vertebra) - 0.5) * 2.0  # 0 in the middle of a vertebral body, 1 in the disc
    width = 0.070 + 0.012 * phase * phase + 0.012 * ramp(v, 0.6)
    spine = ramp(width - a, 0.012) * (0.75 + 0.25 * ramp(0.78 - phase, 0.12))
    spine += 0.5 * bump(ellipse(a, phase * 0.06, (0.046, 0.018), (0.017, 0.03))) + 0.35 * bump(
        ellipse(a, phase * 0.06, (0.0, 0.03), (0.013, 0.03))
    )

    lift, start = patient.between(0.12, 0.24), patient.between(0.18, 0.26)
    x = (a - 0.07) / 0.62
    curve = chest.apex + start - lift * x * (1.8 - 0.8 * x) + 0.05 * bump((x - 0.25) / 0.3)
    off = np.abs(v - curve) / (0.030 + 0.016 * bump(x / 0.25))
    clavicle = (
        ramp(1.0 - off, 0.30)
        * (0.6 + 0.6 * np.minimum(off, 1.0) ** 2)
        * ramp(a - 0.06, 0.012)
        * ramp(0.78 - a, 0.03)
        * (1.0 - 0.5 * np.clip(x, 0.0, 1.0))
    )

    border = a - (0.56 + 0.14 * (v + 0.6)) - patient.between(-0.02, 0.08)
    reach = ramp(v + 0.66, 0.10) * ramp(0.08 - v - 0.6 * np.maximum(a - 0.66, 0.0), 0.12)
    blade = (0.45 * ramp(border, 0.02) * ramp(0.30 - border, 0.12) + 0.6 * bump((border - 0.02) / 0.025)) * reach
    humerus = ramp(1.0 - ellipse(a, v, (0.89, -0.50), (0.115, 0.12)), 0.22)
    shaft = bump((a - 0.94 - 0.10 * (v + 0.5)) / 0.075) * ramp(v + 0.44, 0.05)
    return density * (cage + 0.17 * spine + 0.17 * clavicle + 0.11 * blade + 0.10 * np.maximum(humerus, 0.8 * shaft))
