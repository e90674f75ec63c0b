"""The prepared images that training and encryption both read, so that both see the same pixels.

A folder of three or four files, `meta.json` written last:

- `images.npy`: (num_images, prepared_px, prepared_px) uint8.
- `masks.npy`, where the dataset has lung masks: as many pixels, 255 times the share of each that is lung (`masks.py`). Only `evaluate`
  reads it.
- `index.csv`: one row an image: path, class_name, label, group, fold (-1 without folds), split (train, validation or test).
- `meta.json`: class_names (in the order of the labels), images_sha256 (of the pixels, row by row), num_images, prepared_px, params
  (the configuration that made it).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ppdl.datasets.prepared.splitting import SPLITS
from ppdl.errors import ConfigError, DataError
from ppdl.records.reading import read_object

IMAGES_NAME, MASKS_NAME, INDEX_NAME, META_NAME = "images.npy", "masks.npy", "index.csv", "meta.json"
COLUMNS = ("path", "class_name", "label", "group", "fold", "split")
META_KEYS = ("class_names", "images_sha256", "num_images", "prepared_px", "params")


@dataclass(frozen=True)
class Prepared:
    """Prepared images and what is known of each.

    Attributes:
        images: (num_images, prepared_px, prepared_px) uint8, memory-mapped.
        index: One row an image, in the order of `images`; columns `COLUMNS`.
        class_names: Name of each label.
        meta: The content of `meta.json`.
        masks: Lung masks in the shape of `images`, memory-mapped, all 0 for an image without one; None where the dataset has none.
    """

    images: np.memmap
    index: pd.DataFrame
    class_names: tuple[str, ...]
    meta: dict[str, Any]
    masks: np.memmap | None = None

    @property
    def sha256(self) -> str:
        """Stand for pixels, labels, groups and split together, in hex: figures of two runs compare only where it is the same."""
        index = self.index.to_csv(index=False, lineterminator="\n")
        return hashlib.sha256(f"{self.meta['images_sha256']}\n{index}".encode()).hexdigest()

    def rows(self, *splits: str) -> np.ndarray:
        """Return the row numbers of a split, or of several together, ascending: (num_rows,) int64.

        Raises:
            ConfigError: There is no such split.
        """
        if unknown := set(splits) - set(SPLITS):
            raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {unknown.pop()!r}")
        return np.flatnonzero(self.index["split"].isin(splits).to_numpy())


def load_prepared(path: Path | str) -> Prepared:
    """Open a folder that `prepare` wrote. The images stay on disk until they are read.

    Raises:
        DataError: A file is missing, damaged, or does not fit the others.
    """
    path = Path(path)
    meta = _load_meta(path / META_NAME)
    index = _load_index(path / INDEX_NAME, meta["class_names"])
    images = _load_images(path / IMAGES_NAME)
    expected = (meta["num_images"], meta["prepared_px"], meta["prepared_px"])
    if images.shape != expected:
        raise DataError(f"{path / IMAGES_NAME} must hold {expected} pixels as {META_NAME} says, found {images.shape}; {_AGAIN}")
    if len(index) != meta["num_images"]:
        raise DataError(f"{path / INDEX_NAME} must have {meta['num_images']} rows as {META_NAME} says, found {len(index)}; {_AGAIN}")
    masks = _load_images(path / MASKS_NAME) if (path / MASKS_NAME).exists() else None
    if masks is not None and masks.shape != expected:
        raise DataError(f"{path / MASKS_NAME} must hold {expected} pixels as the images do, found {masks.shape}; {_AGAIN}")
    return Prepared(images, index, tuple(meta["class_names"]), meta, masks)


_AGAIN = "run the split stage again (`dvc repro split`)"


def _load_meta(path: Path) -> dict[str, Any]:
    meta = read_object(path, DataError, missing=f"the images were not prepared to the end; {_AGAIN}", damaged=_AGAIN)
    if missing := [key for key in META_KEYS if key not in meta]:
        raise DataError(f"{path} lacks {', '.join(missing)}; {_AGAIN}")
    names = meta["class_names"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} must have class_names, a list of names, found {names!r}; {_AGAIN}")
    if not isinstance(meta["params"], dict):
        raise DataError(f"{path} must have params, an object, found {meta['params']!r}; {_AGAIN}")
    return meta


def _load_images(path: Path) -> np.memmap:
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python: SyntaxError, TokenError, OverflowError and more
        raise DataError(f"{path} cannot be read: {error}; {_AGAIN}") from error
    if not isinstance(images, np.memmap) or images.dtype != np.uint8 or images.ndim != 3 or not images.flags.c_contiguous:
        rule = "(num_images, prepared_px, prepared_px) uint8 in C order"
        raise DataError(f"{path} must hold {rule}, found {images.shape} {images.dtype}; {_AGAIN}")
    return images


def _load_index(path: Path, class_names: list[str]) -> pd.DataFrame:
    """Load the index and check each column against its rule."""
    kinds = dict.fromkeys(COLUMNS, str) | dict.fromkeys(("label", "group", "fold"), np.int64)
    try:
        index = pd.read_csv(path, dtype=kinds, keep_default_na=False)  # a class may be called NA or null
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; {_AGAIN}") from error
    if tuple(index.columns) != COLUMNS:
        raise DataError(f"{path} must have the columns {', '.join(COLUMNS)}, found {', '.join(index.columns)}; {_AGAIN}")
    if not index["label"].between(0, len(class_names) - 1).all():
        raise DataError(f"{path} must have labels from 0 to {len(class_names) - 1}, found {sorted(index['label'].unique())}; {_AGAIN}")
    names = np.asarray(class_names, dtype=object)[index["label"].to_numpy()]
    wrong = np.flatnonzero(names != index["class_name"].to_numpy(dtype=object))
    if wrong.size:
        row, name = index.iloc[wrong[0]], names[wrong[0]]
        raise DataError(f"{path}: {row['path']} has class {row['class_name']!r} but label {row['label']}, which is {name!r}; {_AGAIN}")
    if not index["split"].isin(SPLITS).all():
        raise DataError(f"{path} must have splits out of {', '.join(SPLITS)}, found {sorted(index['split'].unique())}; {_AGAIN}")
    return index
