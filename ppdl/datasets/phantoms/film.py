"""One film: body, lungs and finding, exposed.

The four classes differ in what `lungs` puts into the lungs; all else on a film is drawn alike for each class. The drawing is frozen:
`tests/vectors/phantom_golden.json` holds hashes of ten images.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ppdl.datasets.phantoms.anatomy import bones, place, smooth_noise, soft_tissue
from ppdl.datasets.phantoms.lungs import FINDINGS, vessels
from ppdl.datasets.phantoms.random import Draw

CLASS_NAMES = tuple(sorted(FINDINGS))
_ANATOMY, _FINDING = 0, 1  # streams apart, so that a finding does not shift what else is drawn
_GLYPHS = {
    "A": ("01110", "10001", "10001", "11111", "10001", "10001", "10001"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "P": ("11110", "10001", "10001", "11110", "10000", "10000", "10000"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
}


LETTERS = frozenset(_GLYPHS)


@dataclass(frozen=True)
class Device:
    """Say how a device differs from the one that films are drawn for.

    Attributes:
        contrast: times the steepness of the film's response.
        gamma: exponent of the gray levels, scaled to 0..1; above 1 the film is darker.
        noise: times the quantum noise.
        collimation: share of the side that the collimator leaves black along each edge.
        letters: burnt into the lower left corner of every film; of LETTERS.
    """

    contrast: float = 1.0
    gamma: float = 1.0
    noise: float = 1.0
    collimation: float = 0.0
    letters: str = ""


STANDARD = Device()


def render(seed: int, class_name: str, patient: int, image: int, size_px: int) -> np.ndarray:
    """Draw one film: uint8 (size_px, size_px), 255 where nothing passes.

    Args:
        patient: Number of the patient within the class, from 0.
        image: Number of the film among the patient's, from 0.
    """
    return render_with_lungs(seed, class_name, patient, image, size_px)[0]


def render_with_lungs(
    seed: int, class_name: str, patient: int, image: int, size_px: int, device: Device = STANDARD
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one film as `render`, as a device takes it, and the mask of its lungs: 255 where a finding may lie, 0 elsewhere."""

    def stream(film: int, part: int) -> Draw:
        return Draw(seed, CLASS_NAMES.index(class_name), patient, film, part)

    body, pose = stream(0, _ANATOMY), stream(1 + image, _ANATOMY)
    chest = place(body, pose, size_px)
    attenuation = soft_tissue(chest, body) + bones(chest, body) + vessels(chest, body)
    attenuation += 0.012 * smooth_noise(body, 60, size_px) * chest.lungs
    attenuation += FINDINGS[class_name](chest, stream(0, _FINDING), stream(1 + image, _FINDING))
    return _expose(attenuation, body, pose, device), np.where(chest.lungs > 0, np.uint8(255), np.uint8(0))


def _expose(attenuation: np.ndarray, body: Draw, pose: Draw, device: Device) -> np.ndarray:
    """Turn attenuation into gray: side marker, blur, quantum noise, the film's S-shaped response, and what the device adds."""
    size_px = attenuation.shape[0]
    middle = body.between(0.54, 0.70) + pose.between(-0.03, 0.03)
    contrast, white, black = body.between(0.18, 0.24), body.between(205.0, 255.0), body.between(0.0, 30.0)
    attenuation += 0.03 * smooth_noise(body, 4, size_px)
    _mark_side(attenuation, body)
    film = ndimage.gaussian_filter(attenuation, body.between(0.5, 0.9) * size_px / 299.0).astype(np.float64)
    film += device.noise * pose.between(0.012, 0.035) * pose.noise((size_px, size_px))
    film = ndimage.gaussian_filter(film, 0.45)
    gray = black + (white - black) / (1.0 + np.exp((middle - film) * device.contrast / contrast))
    if device is not STANDARD:
        gray = _finish(gray, device)
    return np.clip(np.floor(gray + 0.5), 0.0, 255.0).astype(np.uint8)


def _finish(gray: np.ndarray, device: Device) -> np.ndarray:
    """Bend the gray levels, then black out what the collimator covers, then burn the letters in."""
    size_px = gray.shape[0]
    gray = 255.0 * np.clip(gray / 255.0, 0.0, 1.0) ** device.gamma
    open_px = round(device.collimation * size_px), size_px - round(device.collimation * size_px)
    seen = np.zeros(gray.shape, bool)
    seen[slice(*open_px), slice(*open_px)] = True
    gray[~seen] = 0.0
    dot = max(1, size_px // 100)
    for number, letter in enumerate(device.letters):
        glyph = _glyph(letter, dot) > 0
        top, left = size_px - 2 * dot - glyph.shape[0], 2 * dot + 6 * dot * number
        corner = gray[top : top + glyph.shape[0], left : left + glyph.shape[1]]
        corner[glyph[:, : corner.shape[1]]] = 255.0
    return gray


def _glyph(letter: str, dot: int) -> np.ndarray:
    return np.kron(np.array([[float(c) for c in row] for row in _GLYPHS[letter]]), np.ones((dot, dot)))


def _mark_side(attenuation: np.ndarray, body: Draw) -> None:
    """Lay a lead letter on the film, as technicians do: L or R on its side, or none."""
    letter = ("L", "R", None)[int(body.between(0.0, 3.0))]
    away, down, scale = body.between(0.08, 0.16), body.between(0.05, 0.20), body.between(2.0, 4.0)
    if letter is None:
        return
    size_px = attenuation.shape[0]
    dot = max(1, int(scale * size_px / 299.0))
    glyph = _glyph(letter, dot)
    top, left = int(down * size_px), int((1.0 - away if letter == "L" else away) * size_px) - glyph.shape[1] // 2
    left = min(max(left, 0), size_px - glyph.shape[1])
    attenuation[top : top + glyph.shape[0], left : left + glyph.shape[1]] += 1.2 * glyph
