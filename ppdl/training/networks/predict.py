"""Models to files and back, and the logits that they give."""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdl.errors import ConfigError, DataError
from ppdl.protections.view import View
from ppdl.records.atomic import replacing

if TYPE_CHECKING:
    import keras


def predict_flipped(model: keras.Model, view: View, rows: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the mean logits of images and their mirror images (test-time flips), as `predict_logits` otherwise."""
    return np.mean([predict_logits(model, way, rows, batch_size) for way in (view, view.mirrored())], axis=0)


def predict_logits(model: keras.Model, view: View, rows: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the logits of `rows` of a view, (num_rows, num_classes) float32, in their order.

    Quickest with a model that `ppdl.training.networks.fused.fused` made: many calls then share one traced graph. Memory does not grow
    with the number of images.

    Raises:
        ConfigError: The model was built for views of another shape.
        DataError: The view holds symbols that its table, and so the model, does not have.
    """
    from ppdl.training.networks.data import Batches, check_symbols

    expected, found = tuple(model.input_shape[1:]), tuple(view.array.shape[1:])
    if expected != found:
        raise ConfigError(f"view {view.name!r} must have the shape {expected} that the model was trained on, got {found}")
    if not len(rows):
        return np.zeros((0, model.output_shape[-1]), np.float32)
    check_symbols(view, rows)
    batches = Batches(view, rows, batch_size=batch_size)
    return np.asarray(model.predict(batches, verbose=0), np.float32)


def predict_features(model: keras.Model, view: View, rows: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the logits of `rows` as `predict_logits` does, and what the last layer was fed: (num_rows, num_features) float32.

    None for a model whose last layer is fed no vector of one row an image, and so has no features.

    Raises:
        ConfigError, DataError: as `predict_logits`.
    """
    both = _with_features(model)
    if both is None:
        return predict_logits(model, view, rows, batch_size), None
    found, num_features = predict_logits(both, view, rows, batch_size), model.layers[-1].input.shape[1]
    return found[:, num_features:], found[:, :num_features]


@lru_cache(maxsize=8)  # many calls share one traced graph
def _with_features(model: keras.Model) -> keras.Model | None:
    """Return the model that gives what the last layer is fed and the logits side by side; None where the first is no vector an image."""
    import keras

    fed = model.layers[-1].input
    if isinstance(fed, list) or len(fed.shape) != 2 or fed.shape[1] is None:
        return None
    return keras.Model(model.inputs, keras.layers.Concatenate(name="features_and_logits")([fed, model.outputs[0]]))


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model to `path`, *.keras, whole or not at all."""
    path = Path(path)
    if path.suffix != ".keras":
        raise ConfigError(f"a model's file must end in .keras, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        model.save(unfinished)


def load_model(path: Path) -> keras.Model:
    """Read a model that `save_model` wrote. Code in the file is refused, not run (Keras' safe mode).

    Raises:
        DataError: `path` is missing, no Keras model, or damaged.
    """
    import keras

    path = Path(path)
    if not path.is_file():
        raise DataError(f"model {path} is missing: train it with `dvc repro`, or fetch it with `dvc pull`")
    if not zipfile.is_zipfile(path):
        raise DataError(f"model {path} is not a .keras file: train it again")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        first_line = str(error).strip().split("\n")[0][:200]
        raise DataError(f"model {path} cannot be read ({first_line}): train it again") from error
