"""Temperature scaling: one number, fitted on validation images, that makes a network's confidence as large as its accuracy.

Probabilities are softmax(logits / T). T > 1 softens, T < 1 sharpens; the order of the classes, and with it the accuracy, stays. No test
label touches T. The validation images also chose the epoch whose weights are kept, so T errs a little towards sharpness.

Source: Guo et al. 2017 (arXiv 1706.04599), section 4.2.
"""

import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ppdl.errors import DataError
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.predictions.scores import probabilities, scores
from ppdl.records.reading import read_object

logger = logging.getLogger(__name__)

CALIBRATION_NAME = "calibration.json"
CALIBRATED = "_calibrated"  # ends the names of figures at a run's temperature
LEAST, MOST = 0.01, 100.0  # at MOST any logits a network gives are as good as even
MIN_IMAGES = 10


@dataclass(frozen=True)
class Calibration:
    """Hold a temperature and what it did to the images that it was fitted on.

    Attributes:
        temperature: In [0.01, 100]; 1 leaves the logits as they are.
        num_images: Validation images that it was fitted on.
        nll_before, nll_after: Mean negative log-likelihood of the true class, at 1 and at `temperature`; None without such images.
        ece_before, ece_after: Expected calibration error, see `metrics`; None without such images.
        origin: The set whose validation images these are, in words; probabilities hold for images like them. None: not recorded.
    """

    temperature: float
    num_images: int
    nll_before: float | None
    nll_after: float | None
    ece_before: float | None
    ece_after: float | None
    origin: str | None = None

    @property
    def set_by(self) -> str | None:
        """Name the validation images that set the temperature; None where none did, and probabilities are as the network gives them."""
        return None if self.temperature == 1 else self.origin

    @property
    def figures(self) -> dict[str, float]:
        """What is logged of a training: numbers but that of images, as far as they were measured."""
        return {name: value for name, value in asdict(self).items() if name not in ("num_images", "origin") and value is not None}

    def write(self, folder: Path) -> None:
        """Write `folder`/calibration.json."""
        text = json.dumps(asdict(self), indent=1, allow_nan=False)
        (folder / CALIBRATION_NAME).write_text(text + "\n", encoding="utf-8", newline="\n")


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return the one T in [0.01, 100] that minimises the negative log-likelihood of `labels`.

    That is a smooth problem with one minimum, for the negative log-likelihood is convex in 1 / T. Where images cannot answer it the
    logits are left as they are (T = 1) and a warning says so: with fewer than 10 images, and where no image is classified wrongly, for
    then the likelihood only grows as T goes to 0, and certainty would be made of a lack of hard images.

    Args:
        labels: (num_images,) integers in [0, num_classes).
        logits: (num_images, num_classes).

    Raises:
        DataError: The arrays do not fit each other, a label is out of range, or a logit is not finite.

    Cost: some 20 passes over the logits.
    """
    known = _numbered(labels, logits)  # the rules of predictions are those of validation images
    labels, logits = known.labels, np.asarray(logits, np.float64)
    if len(labels) < MIN_IMAGES:
        logger.warning("%d validation images are too few for a temperature (%d are needed): T = 1", len(labels), MIN_IMAGES)
        return 1.0
    if (logits.argmax(axis=1) == labels).all():
        logger.warning("no validation image of %d is classified wrongly, which sets confidence no limit: T = 1", len(labels))
        return 1.0
    found = minimize_scalar(
        lambda log_t: _nll(labels, logits / math.exp(log_t)),
        bounds=(math.log(LEAST), math.log(MOST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    candidates = (1.0, math.exp(found.x), LEAST, MOST)  # of equally likely ones the first: logits that are all alike stay as they are
    best = min(candidates, key=lambda temperature: _nll(labels, logits / temperature))
    if best == MOST:
        logger.warning("on %d validation images the network is no better than even probabilities: T = %g, its bound", len(labels), MOST)
    return best


def calibrate(labels: np.ndarray, logits: np.ndarray, origin: str | None = None) -> Calibration:
    """Fit a temperature on validation images of `origin` and measure what it does there; see `fit_temperature`."""
    temperature = fit_temperature(labels, logits)
    before, after = (_scores(labels, np.asarray(logits, np.float64) / t) for t in (1.0, temperature))
    return Calibration(temperature, len(labels), before["log_loss"], after["log_loss"], before["ece"], after["ece"], origin)


def apply_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return (num_images, num_classes) float64 probabilities at a temperature, whose order is that of the logits."""
    return probabilities(np.asarray(logits, np.float64) / temperature)


def load_calibration(folder: Path) -> Calibration:
    """Read the calibration.json of a model's folder.

    Raises:
        DataError: It is missing, damaged, or its temperature is not a finite number above 0.
    """
    path, again = Path(folder) / CALIBRATION_NAME, "train the model again"
    content = read_object(path, DataError, missing="train the model with `dvc repro`, or fetch it with `dvc pull`", damaged=again)
    try:
        found = Calibration(**content)
    except TypeError as error:
        raise DataError(f"{path} is no calibration ({error}): {again}") from None
    temperature = found.temperature
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise DataError(f"{path}: temperature must be a finite number above 0, got {temperature!r}: {again}")
    return found


def calibrated(predictions: Predictions, temperature: float) -> Predictions:
    """Return predictions with logits / `temperature`, whose softmax is the calibrated probabilities."""
    logits = predictions.logits.astype(np.float64) / temperature
    return Predictions(predictions.labels, logits, predictions.groups, predictions.image_ids, predictions.class_names)


def _scores(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return log_loss and ece as the reports define them."""
    found = scores(_numbered(labels, logits), np.zeros(len(labels), int), 1)
    return {name: float(found[name][0]) for name in ("log_loss", "ece")}


def _nll(labels: np.ndarray, logits: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _numbered(labels: np.ndarray, logits: np.ndarray) -> Predictions:
    """Return predictions of images and classes that have numbers for names, each image its own group."""
    rows, names = np.arange(len(labels)), tuple(str(c) for c in range(np.shape(logits)[-1] if np.ndim(logits) == 2 else 0))
    return Predictions(labels, logits, rows, rows, names)
