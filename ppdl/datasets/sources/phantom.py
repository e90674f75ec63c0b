"""Synthetic chest X-rays in the layout of the COVID-19 Radiography Database: made anew on any machine, no download, no patient.

The four classes differ in what `phantom_lungs` puts into the lungs; all else on a film is drawn alike for each class. The drawing is
frozen: `tests/vectors/phantom_golden.json` holds hashes of ten images. It stands in for real data in tests and demonstrations and says
nothing about medicine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from ppdl.datasets.images.masks import MASKS_FOLDER, mask_path
from ppdl.datasets.phantoms.anatomy import bones, place, smooth_noise, soft_tissue
from ppdl.datasets.phantoms.lungs import FINDINGS, vessels
from ppdl.datasets.phantoms.random import Draw
from ppdl.datasets.sources.base import Dataset, write_index
from ppdl.errors import ConfigError, DataError

CLASS_NAMES = tuple(sorted(FINDINGS))
MIN_IMAGES_PER_CLASS = 3  # one each for train, validation and test
_ANATOMY, _FINDING = 0, 1  # streams apart, so that a finding does not shift what else is drawn
_GLYPHS = {
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
}


@dataclass(frozen=True, kw_only=True)
class Phantom(Dataset):
    """Draw `num_images` films, as many of each class to within one.

    Film `i` of a class depends on `seed`, the class, its patient and its place among the patient's films: more images or fewer classes
    leave it as it is. A patient is in one class only.

    Attributes:
        num_images: Number of films, all classes together.
        images_per_patient: Films of one patient: the same body and disease, posed, breathing and exposed anew.
        size_px: Height and width of a film; 299 as in the real database.
        seed: Seed of all drawing.

    Raises:
        ConfigError: A field breaks its rule.

    Cost: about 30 ms a film of 299 px on one core; all cores are used.
    """

    num_images: int
    images_per_patient: int
    size_px: int
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.class_names if name not in FINDINGS]
        if unknown:
            raise ConfigError(f"dataset.classes of the phantom must be among {', '.join(CLASS_NAMES)}, got {', '.join(unknown)}")
        fewest = MIN_IMAGES_PER_CLASS * len(self.class_names)
        rules = (("num_images", fewest, None), ("images_per_patient", 1, None), ("size_px", 32, 2048), ("seed", 0, None))
        for name, low, high in rules:
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or value < low or (high is not None and value > high):
                limit = f"from {low} to {high}" if high is not None else f">= {low}"
                why = f" ({MIN_IMAGES_PER_CLASS} for each of {len(self.class_names)} classes)" if name == "num_images" else ""
                raise ConfigError(f"dataset.{name} must be a whole number {limit}{why}, got {value!r}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the classes that are drawn, in order."""
        return CLASS_NAMES if self.classes is None else tuple(self.classes)

    def write_raw(self, out_dir: Path) -> None:
        """Write `out_dir/CLASS/images/CLASS-NUMBER.png` (8-bit gray), `out_dir/CLASS/masks/` likewise, and `out_dir/index.csv`, last.

        Raises:
            DataError: A class's folder holds files already: they might be real images.
        """
        for name in self.class_names:
            folder = out_dir / name / "images"
            if folder.exists() and any(folder.iterdir()):
                raise DataError(f"{folder} must be empty before phantoms are written into it; remove it or choose another folder")
            folder.mkdir(parents=True, exist_ok=True)
            (out_dir / name / MASKS_FOLDER).mkdir(exist_ok=True)
        films = list(self._films())
        work = (
            joblib.delayed(_write_film)(out_dir, path, self.seed, name, patient, image, self.size_px)
            for path, name, patient, image in films
        )
        done = joblib.Parallel(n_jobs=-1, return_as="generator")(work)
        for _ in tqdm(done, total=len(films), desc="phantom", unit="image"):
            pass
        write_index(out_dir, ((path, name, f"{name}-patient-{patient + 1}") for path, name, patient, _ in films))

    def _films(self) -> Iterator[tuple[str, str, int, int]]:
        """Yield (path, class name, patient, which of the patient's films) of every film."""
        for position, name in enumerate(self.class_names):
            count = (self.num_images + len(self.class_names) - 1 - position) // len(self.class_names)
            for i in range(count):
                yield f"{name}/images/{name}-{i + 1}.png", name, *divmod(i, self.images_per_patient)


def render(seed: int, class_name: str, patient: int, image: int, size_px: int) -> np.ndarray:
    """Draw one film: uint8 (size_px, size_px), 255 where nothing passes.

    Args:
        patient: Number of the patient within the class, from 0.
        image: Number of the film among the patient's, from 0.
    """
    return render_with_lungs(seed, class_name, patient, image, size_px)[0]


def render_with_lungs(seed: int, class_name: str, patient: int, image: int, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one film as `render`, and the mask of its lungs: 255 where a finding may lie, 0 elsewhere."""

    def stream(film: int, part: int) -> Draw:
        return Draw(seed, CLASS_NAMES.index(class_name), patient, film, part)

    body, pose = stream(0, _ANATOMY), stream(1 + image, _ANATOMY)
    chest = place(body, pose, size_px)
    attenuation = soft_tissue(chest, body) + bones(chest, body) + vessels(chest, body)
    attenuation += 0.012 * smooth_noise(body, 60, size_px) * chest.lungs
    attenuation += FINDINGS[class_name](chest, stream(0, _FINDING), stream(1 + image, _FINDING))
    return _expose(attenuation, body, pose), np.where(chest.lungs > 0, np.uint8(255), np.uint8(0))


def _expose(attenuation: np.ndarray, body: Draw, pose: Draw) -> np.ndarray:
    """Turn attenuation into gray: side marker, blur, quantum noise, and the film's S-shaped response."""
    size_px = attenuation.shape[0]
    middle = body.between(0.54, 0.70) + pose.between(-0.03, 0.03)
    contrast, white, black = body.between(0.18, 0.24), body.between(205.0, 255.0), body.between(0.0, 30.0)
    attenuation += 0.03 * smooth_noise(body, 4, size_px)
    _mark_side(attenuation, body)
    film = ndimage.gaussian_filter(attenuation, body.between(0.5, 0.9) * size_px / 299.0).astype(np.float64)
    film += pose.between(0.012, 0.035) * pose.noise((size_px, size_px))
    film = ndimage.gaussian_filter(film, 0.45)
    gray = black + (white - black) / (1.0 + np.exp((middle - film) / contrast))
    return np.clip(np.floor(gray + 0.5), 0.0, 255.0).astype(np.uint8)


def _mark_side(attenuation: np.ndarray, body: Draw) -> None:
    """Lay a lead letter on the film, as technicians do: L or R on its side, or none."""
    letter = ("L", "R", None)[int(body.between(0.0, 3.0))]
    away, down, scale = body.between(0.08, 0.16), body.between(0.05, 0.20), body.between(2.0, 4.0)
    if letter is None:
        return
    size_px = attenuation.shape[0]
    dot = max(1, int(scale * size_px / 299.0))
    glyph = np.kron(np.array([[float(c) for c in row] for row in _GLYPHS[letter]]), np.ones((dot, dot)))
    top, left = int(down * size_px), int((1.0 - away if letter == "L" else away) * size_px) - glyph.shape[1] // 2
    left = min(max(left, 0), size_px - glyph.shape[1])
    attenuation[top : top + glyph.shape[0], left : left + glyph.shape[1]] += 1.2 * glyph


def _write_film(out_dir: Path, path: str, seed: int, class_name: str, patient: int, image: int, size_px: int) -> None:
    film, lungs = render_with_lungs(seed, class_name, patient, image, size_px)
    Image.fromarray(film).save(out_dir / path, compress_level=4)
    Image.fromarray(lungs).save(out_dir / mask_path(path), compress_level=4)
