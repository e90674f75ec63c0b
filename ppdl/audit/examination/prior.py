"""Images that anybody can get and an attacker compares with: phantoms of another seed, of which no one belongs to the protected set."""

import joblib
import numpy as np
from PIL import Image

from ppdl.datasets.phantoms.film import CLASS_NAMES, render

_FILM_PX = 299


def phantom_prior(num_images: int, height: int, width: int, *, seed: int) -> np.ndarray:
    """Draw public images, (num_images, height, width) uint8, all classes alike, each of another patient.

    Cost: about 30 ms an image on one core; all cores are used.
    """
    films = (joblib.delayed(_film)(seed, i, height, width) for i in range(num_images))
    return np.stack(joblib.Parallel(n_jobs=-1)(films))


def _film(seed: int, number: int, height: int, width: int) -> np.ndarray:
    patient, kind = divmod(number, len(CLASS_NAMES))
    film = Image.fromarray(render(seed, CLASS_NAMES[kind], patient, 0, _FILM_PX))
    return np.asarray(film.resize((width, height), Image.Resampling.BOX))
