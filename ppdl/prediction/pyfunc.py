"""What `mlflow models serve` and `mlflow models predict` load: a registered network that takes raw image files.

The MLmodel file names this module; MLflow calls `_load_pyfunc` with the model's data folder. Input: a column `image`, each value the
content of a PNG, JPEG or DICOM file in base64. Output: a column of calibrated probabilities for each class, and
`unlike_training_set`, 1 for an image that the answer should not be believed for (`ppdl.evaluation.predictions.likeness`).

The server sees the images in the clear, whichever protection the network was trained on: it takes them through the protection's steps so
that the answers are those of `ppdl predict`. It protects nothing.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ppdl.config import checkout
from ppdl.crypto.keys.keystore import PRIVATE_DIR_VARIABLE, default_private_dir, require_private
from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.image_io import read_gray_bytes
from ppdl.errors import DataError, KeyStoreError
from ppdl.prediction.network import open_network
from ppdl.prediction.steps import read_images
from ppdl.protections.context import KeyHolder
from ppdl.tracking.registry.models import UNLIKE

if TYPE_CHECKING:
    from ppdl.prediction.network import Network

COLUMN = "image"


class RawImages:
    """Answer for image files; the interface that MLflow expects of a python_function model."""

    def __init__(self, network: Network, key_holder: KeyHolder) -> None:
        self._network, self._key_holder = network, key_holder

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return probabilities, one row for each row of `data`, one column for each class, and whether each is unlike the training set.

        Args:
            data: a column `image` of base64 text.
            params: none are known; MLflow passes them.

        Raises:
            DataError: a row is no image that can be used. All bad rows are named, and nothing is answered.
        """
        if COLUMN not in data:
            raise DataError(f"the input must have a column {COLUMN!r} of image files in base64, got {list(map(str, data.columns))}")
        texts = dict(enumerate(data[COLUMN]))
        recipe = self._network.recipe
        images, _, bad = read_images(texts, recipe.prepared_px, lambda row: read_gray_bytes(decode(texts[row])))
        if bad:
            raise DataError("\n".join(f"row {row}: {reason}" for row, reason in bad.items()))
        columns = list(recipe.class_names)
        if not len(images):
            return pd.DataFrame(np.empty((0, len(columns))), columns=columns)
        answers = self._network.answer(images, self._key_holder)
        found = pd.DataFrame(answers.probabilities, columns=columns)
        return found if answers.unlike is None else found.assign(**{UNLIKE: answers.unlike.astype(np.float64)})


def decode(text: object) -> bytes:
    """Return the bytes that base64 text stands for; line breaks, as `base64` writes them, do not count.

    Raises:
        BadImageError: it is no base64 text.
    """
    try:
        return base64.b64decode("".join(str(text).split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadImageError("not base64: encode the whole file, as `base64 FILE` does") from None


def _load_pyfunc(path: str) -> RawImages:
    network = open_network(Path(path))
    private_dir = default_private_dir()
    if network.public_key is not None and "reveal" in network.recipe.steps:
        # Raw images and the private key on one machine: no more than an explicit wish should bring that about.
        if not os.environ.get(PRIVATE_DIR_VARIABLE):
            raise KeyStoreError(
                f"this model was trained on what the private key {network.recipe.key_fingerprint} reveals, so a server for it must hold "
                f"that key: set {PRIVATE_DIR_VARIABLE} to its folder if it may lie there. Images reach this server in the clear either way"
            )
        require_private(network.public_key, private_dir)
    _ = network.model, network.temperature  # what is damaged stops the server at its start
    return RawImages(network, KeyHolder(private_dir, checkout()))
