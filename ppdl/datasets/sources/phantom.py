"""Synthetic chest X-rays in the layout of the COVID-19 Radiography Database: made anew on any machine, no download, no patient.

They stand in for real data in tests and demonstrations and say nothing about medicine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import joblib
from annotated_types import Ge, Le
from PIL import Image
from tqdm import tqdm

from ppdl.datasets.images.masks import MASKS_FOLDER, mask_path
from ppdl.datasets.phantoms.film import CLASS_NAMES, STANDARD, Device, render_with_lungs
from ppdl.datasets.sources.base import Dataset, write_index
from ppdl.errors import ConfigError, DataError
from ppdl.records.typecheck import Count, Whole

MIN_IMAGES_PER_CLASS = 3  # one each for train, validation and test


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

    num_images: Count
    images_per_patient: Count
    size_px: Annotated[int, Ge(32), Le(2048)]
    seed: Whole

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.class_names if name not in CLASS_NAMES]
        if unknown:
            raise ConfigError(f"dataset.classes of the phantom must be among {', '.join(CLASS_NAMES)}, got {', '.join(unknown)}")
        fewest = MIN_IMAGES_PER_CLASS * len(self.class_names)
        if self.num_images < fewest:
            why = f"{MIN_IMAGES_PER_CLASS} for each of {len(self.class_names)} classes"
            raise ConfigError(f"dataset.num_images must be >= {fewest} ({why}), got {self.num_images!r}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the classes that are drawn, in order."""
        return CLASS_NAMES if self.classes is None else tuple(self.classes)

    @property
    def device(self) -> Device:
        """Return what takes the films."""
        return STANDARD

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
            joblib.delayed(_write_film)(out_dir, path, self.seed, name, patient, image, self.size_px, self.device)
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


def _write_film(out_dir: Path, path: str, seed: int, class_name: str, patient: int, image: int, size_px: int, device: Device) -> None:
    film, lungs = render_with_lungs(seed, class_name, patient, image, size_px, device)
    Image.fromarray(film).save(out_dir / path, compress_level=4)
    Image.fromarray(lungs).save(out_dir / mask_path(path), compress_level=4)
