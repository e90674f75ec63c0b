"""Images that anybody can get: phantoms of another seed than the set's, of which no one belongs to it."""

import joblib
import numpy as np
from PIL import Image

from ppdl.datasets.phantoms.film import CLASS_NAMES, render

FILM_PX = 299
PUBLIC_SEED = 90210  # of the films that public backbones are made from


def public_phantoms(num_images: int, height: int, width: int, *, seed: int, film_px: int = FILM_PX) -> np.ndarray:
    """Draw public images, (num_images, height, width) uint8, the classes in turn, each of another patient.

    Args:
        film_px: side of a film as it is drawn, before it is resized.

    Cost: about 30 ms an image of 299 px on one core; all cores are used.
    """
    films = (joblib.delayed(_film)(seed, i, height, width, film_px) for i in range(num_images))
    return np.stack(joblib.Parallel(n_jobs=-1)(films))


def _film(seed: int, number: int, height: int, width: int, film_px: int) -> np.ndarray:
    patient, kind = divmod(number, len(CLASS_NAMES))
    film = Image.fromarray(render(seed, CLASS_NAMES[kind], patient, 0, film_px))
    return np.asarray(film.resize((width, height), Image.Resampling.BOX))
