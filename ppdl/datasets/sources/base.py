"""What a dataset is: something that writes images, one folder a class, and an index that names the patient of each."""

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ppdl.errors import ConfigError
from ppdl.records.atomic import replacing

INDEX_NAME = "index.csv"
INDEX_COLUMNS = ("path", "class_name", "patient")


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """Base of all datasets: a frozen dataclass that Hydra builds from `conf/dataset/NAME.yaml`.

    A subclass adds its own fields, calls `super().__post_init__()` first when it validates them, and implements `write_raw`.

    Attributes:
        classes: Subset and order of the classes; None takes all, sorted by name.
        on_bad_image: What to do with an image that cannot be used: `raise` stops, `drop` leaves it out and reports it.

    Raises:
        ConfigError: A field breaks its rule.
    """

    classes: Sequence[str] | None
    on_bad_image: Literal["raise", "drop"]

    def __post_init__(self) -> None:
        classes = self.classes
        if classes is None or isinstance(classes, str):  # a text is no list: the check of types says so
            return
        for name in classes:
            if not isinstance(name, str) or not name:  # YAML reads an unquoted No or 1 as a bool or an int
                raise ConfigError(f"dataset.classes must hold names (quote them in YAML), got {name!r} in {list(classes)}")
        repeated = sorted({name for name in classes if classes.count(name) > 1})
        if repeated:
            raise ConfigError(f"dataset.classes must name each class once, got {', '.join(repeated)} more than once")
        if len(classes) < 2:
            raise ConfigError(f"dataset.classes must name at least 2 classes to tell apart, got {list(classes)}")

    def sources(self) -> tuple[Path, ...]:
        """Return the user's own files and folders that the images come from; a set that is drawn or fetched has none.

        Where there are some, conf/listing/NAME.yaml has each `dvc repro` look whether they changed.
        """
        return ()

    def column(self, name: str, paths: Sequence[str]) -> list[str]:
        """Return what the column `name` of the set's own table says of films, by their paths in the raw index.

        Raises:
            ConfigError: the set has no such table.
        """
        raise ConfigError(f"there is no column {name!r}: only dataset=folder has a table of films, and that where dataset.patients is set")

    @abstractmethod
    def write_raw(self, out_dir: Path) -> None:
        """Write the images below `out_dir/CLASS/` and their index to `out_dir/index.csv` (see `write_index`).

        Raises:
            DataError: The source is missing, or an image cannot be used and `on_bad_image` is `raise`.
        """


def write_index(out_dir: Path, rows: Iterable[tuple[str, str, str]]) -> Path:
    """Write `out_dir/index.csv`: one row an image, in the order given.

    Args:
        out_dir: The folder that the paths are relative to.
        rows: (path relative to `out_dir` with forward slashes, class name, patient or '' if unknown).
    """
    path = out_dir / INDEX_NAME
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")  # the same bytes on every platform, since DVC hashes them
        writer.writerow(INDEX_COLUMNS)
        writer.writerows(rows)
    return path
