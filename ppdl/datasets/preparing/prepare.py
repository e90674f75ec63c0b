"""Turn raw images into prepared ones: quality gate, duplicates, groups, splits, report (the stage `split`)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from ppdl.datasets.images.masks import have_masks, write_masks
from ppdl.datasets.prepared.arrays import COLUMNS, IMAGES_NAME, MASKS_NAME, META_NAME, Prepared, load_prepared
from ppdl.datasets.prepared.splitting import Split, assign_splits
from ppdl.datasets.preparing.data_report import write_report
from ppdl.datasets.preparing.duplicates import join_groups, near_pairs
from ppdl.datasets.preparing.scan import Selection, read_pictures, select, write_images
from ppdl.datasets.sources.base import INDEX_COLUMNS, INDEX_NAME
from ppdl.errors import DataError
from ppdl.records.atomic import replacing

__all__ = ["Prepared", "Split", "assign_splits", "load_prepared", "prepare"]

MIN_CLASS_IMAGES = 3  # one each for train, validation and test


def prepare(
    raw_dir: Path,
    out_dir: Path,
    report_dir: Path,
    *,
    split: Split,
    prepared_px: int,
    on_bad_image: str,
    params: dict[str, Any],
    num_workers: int = -1,
) -> None:
    """Read raw images, drop what cannot be used and what occurs twice, share out the rest, and write it (`prepared.py`) with a report.

    A group is what patients and near duplicates connect: it is never divided between splits. Labels follow the order in which the
    classes first appear in the raw index.

    Args:
        raw_dir: What `Dataset.write_raw` wrote.
        out_dir: Gets `images.npy`, `masks.npy` where there are lung masks, `index.csv` and `meta.json`, the last when all else is whole.
        report_dir: Gets `data.json`, `dropped.csv` and `data/*.png`.
        prepared_px: Height and width of the prepared images.
        on_bad_image: `raise` lists all unusable images in one error, `drop` leaves them out.
        params: Configuration to record in `meta.json`; JSON types.
        num_workers: Threads that decode; -1 takes one a core.

    Raises:
        DataError: The raw folder is damaged, an image cannot be used, or a class is too small to split.

    Cost: about 1.5 ms a core and image of 299 x 299, plus 7 s of sharing out for 21,165 images; memory independent of their number but
    for 200 bytes each; disk twice the result for a while.
    """
    clusters, counts = list[np.ndarray](), dict[str, int]()

    def share_out(raw: pd.DataFrame, selection: Selection) -> tuple[pd.DataFrame, list[str]]:
        index, found, class_names = _build_index(raw, selection, split)
        clusters.append(found)
        counts["num_without_patient"] = int((raw["patient"].iloc[selection.rows] == "").sum())
        return index, class_names

    def report(done: Written) -> None:
        images = np.load(Path(out_dir) / IMAGES_NAME, mmap_mode="r", allow_pickle=False)
        told = counts | {"num_masks": done.num_masks}
        write_report(Path(report_dir), images, done.index, done.class_names, done.selection, clusters[0], split, told)

    write_prepared(
        raw_dir, out_dir, share_out, report, prepared_px=prepared_px, on_bad_image=on_bad_image, params=params, num_workers=num_workers
    )


@dataclass(frozen=True, eq=False)
class Written:
    """Say what was written: which raw images, the index, the names of its labels, and how many images have a lung mask."""

    selection: Selection
    index: pd.DataFrame
    class_names: list[str]
    num_masks: int


def write_prepared(
    raw_dir: Path,
    out_dir: Path,
    index_of: Callable[[pd.DataFrame, Selection], tuple[pd.DataFrame, list[str]]],
    report: Callable[[Written], None],
    *,
    prepared_px: int,
    on_bad_image: str,
    params: dict[str, Any],
    num_workers: int = -1,
) -> None:
    """Read raw images, drop what cannot be used and what occurs twice, and write the rest as `load_prepared` reads it.

    Args:
        index_of: gives the index of the used images, columns COLUMNS, and the names of its labels.
        report: writes what is told of them; meta.json follows it, so what was not told of does not load.
        raw_dir, out_dir, prepared_px, on_bad_image, params, num_workers: as for `prepare`.

    Raises:
        DataError: as `prepare`, and what `index_of` raises.
    """
    raw_dir, out_dir = Path(raw_dir), Path(out_dir)
    raw = read_raw_index(raw_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / META_NAME).unlink(missing_ok=True)  # a crash from here on leaves a folder that does not load
    spool = out_dir / "images.spool"
    try:
        found = read_pictures(raw_dir, raw["path"].tolist(), spool, prepared_px=prepared_px, num_workers=num_workers)
        selection = select(raw, found, on_bad_image=on_bad_image)
        index, class_names = index_of(raw, selection)
        with replacing(out_dir / IMAGES_NAME) as path:
            images_sha256 = write_images(spool, selection.spool_rows, path, prepared_px)
    finally:
        spool.unlink(missing_ok=True)
    num_masks = _prepare_masks(raw_dir, index["path"].tolist(), out_dir / MASKS_NAME, prepared_px, num_workers)
    with replacing(out_dir / INDEX_NAME) as path:
        index.to_csv(path, index=False, lineterminator="\n")
    report(Written(selection, index, class_names, num_masks))
    sizes = {"num_images": len(index), "prepared_px": prepared_px}
    meta = {"class_names": class_names, "images_sha256": images_sha256, **sizes, "params": params}
    with replacing(out_dir / META_NAME) as path:
        path.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def _prepare_masks(raw_dir: Path, paths: list[str], out_path: Path, prepared_px: int, num_workers: int) -> int:
    """Write the lung masks, or remove those of an earlier dataset where this one has none; return how many images have one."""
    if not have_masks(raw_dir, paths):
        out_path.unlink(missing_ok=True)
        return 0
    with replacing(out_path) as path:
        return write_masks(raw_dir, paths, path, prepared_px=prepared_px, num_workers=num_workers)


def read_raw_index(raw_dir: Path) -> pd.DataFrame:
    """Read the index that `Dataset.write_raw` wrote: columns path, class_name, patient ('' if unknown).

    Raises:
        DataError: It is missing, unreadable, empty, or names a path twice or outside `raw_dir`.
    """
    path = raw_dir / INDEX_NAME
    again = "run the download stage again (`dvc repro download`)"
    try:
        index = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {again}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; {again}") from error
    if tuple(index.columns) != INDEX_COLUMNS:
        raise DataError(f"{path} must have the columns {', '.join(INDEX_COLUMNS)}, found {', '.join(index.columns)}; {again}")
    if index.empty:
        raise DataError(f"{path} lists no images; {again}")
    for name in index["path"]:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:  # //server/x is absolute too
            raise DataError(f"{path} must list paths below {raw_dir} with forward slashes, found {name!r}; {again}")
    twice = index["path"][index["path"].duplicated()]
    if not twice.empty:
        raise DataError(f"{path} must list each path once, found {twice.iloc[0]!r} twice; {again}")
    nameless = index["path"][index["class_name"] == ""]
    if not nameless.empty:
        raise DataError(f"{path} must name a class for every image, found none for {nameless.iloc[0]!r}; {again}")
    return index


def _build_index(raw: pd.DataFrame, selection: Selection, split: Split) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Group and share out the used images.

    Returns:
        The index of the prepared images, their (num_images,) clusters of near duplicates, and the class names.
    """
    class_names = list(dict.fromkeys(raw["class_name"]))
    used = raw.iloc[selection.rows]
    _check_class_sizes(raw, used, class_names)
    labels = used["class_name"].map({name: label for label, name in enumerate(class_names)}).to_numpy(np.int64)
    pairs = near_pairs(np.stack([picture.perceptual for picture in selection.pictures]), split.near_duplicate_bits)
    clusters = join_groups(len(used), pairs, [])
    patients = list(enumerate(used["patient"])) + [(kept, raw["patient"].iat[row]) for kept, row in selection.copies]
    groups = join_groups(len(used), pairs, [(image, patient) for image, patient in patients if patient])
    fold, names = assign_splits(labels, groups, split, class_names=class_names)
    index = used[["path", "class_name"]].assign(label=labels, group=groups, fold=fold, split=names)
    return index[list(COLUMNS)].reset_index(drop=True), clusters, class_names


def _check_class_sizes(raw: pd.DataFrame, used: pd.DataFrame, class_names: list[str]) -> None:
    for name in class_names:
        count, total = int((used["class_name"] == name).sum()), int((raw["class_name"] == name).sum())
        if count < MIN_CLASS_IMAGES:
            raise DataError(
                f"class {name} has {count} usable images of {total}, but at least {MIN_CLASS_IMAGES} are needed for train, validation and "
                "test (identical pictures count once); add images, or leave the class out with dataset.classes"
            )
