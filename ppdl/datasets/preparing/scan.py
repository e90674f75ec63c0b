"""Read every raw image once: refuse what cannot be used, drop what occurs twice, keep the rest at its prepared size."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ppdl.datasets.images.dicom import is_for_processing
from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.image_io import is_dicom, read_gray, side_by_side
from ppdl.datasets.prepared.resize import area_resize
from ppdl.datasets.preparing.duplicates import perceptual_hash, pixel_hash
from ppdl.errors import DataError

_MAX_LISTED = 200  # bad files in one message


@dataclass(frozen=True)
class Picture:
    """What is remembered of a readable image; its pixels are in the spool, one image after the other."""

    exact: bytes
    perceptual: np.ndarray  # (32,) uint8
    enlarged: bool
    for_processing: bool = False  # says that it is not meant for display


@dataclass(frozen=True)
class Dropped:
    """A raw image that is not used. `kind` is `bad_image`, `exact_duplicate` or `conflicting_class`."""

    path: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """Which raw images are used.

    Attributes:
        rows: (num_images,) rows of the raw index that are used, ascending.
        spool_rows: (num_images,) where their pixels are in the spool.
        pictures: What is known of each.
        copies: (position in `rows`, row of the raw index) of each exact duplicate that was left out.
        dropped: What is not used, in the order of the raw index.
    """

    rows: np.ndarray
    spool_rows: np.ndarray
    pictures: list[Picture]
    copies: list[tuple[int, int]]
    dropped: list[Dropped]


def read_pictures(raw_dir: Path, paths: Sequence[str], spool: Path, *, prepared_px: int, num_workers: int) -> list[Picture | str]:
    """Decode all images, write the pixels of the readable ones to `spool`, prepared_px^2 bytes each, and hash them.

    Args:
        paths: Relative to `raw_dir`; their order is the order of the result, whatever the number of workers.
        num_workers: Threads; -1 takes one a core. Decoding and hashing release the interpreter's lock most of the time.

    Returns:
        For each path what was read, or why it cannot be used.

    Raises:
        DataError: An image is DICOM and pydicom is missing.
    """

    def read(path: str) -> tuple[Picture, np.ndarray] | str:
        try:
            gray = read_gray(raw_dir / path)
        except BadImageError as error:
            return str(error)
        for_processing = is_dicom(raw_dir / path) and is_for_processing(raw_dir / path)
        picture = Picture(pixel_hash(gray), perceptual_hash(gray), min(gray.shape) < prepared_px, for_processing)
        return picture, area_resize(gray, prepared_px)

    found: list[Picture | str] = []
    with spool.open("wb") as file:
        for result in tqdm(side_by_side(read, paths, num_workers), total=len(paths), desc="read images", unit="image"):
            if not isinstance(result, str):
                result, pixels = result
                file.write(pixels)
            found.append(result)
    return found


def select(index: pd.DataFrame, found: Sequence[Picture | str], *, on_bad_image: str) -> Selection:
    """Decide which raw images are used: readable ones, the first of each set of identical ones.

    Args:
        index: The raw index, columns path and class_name.
        found: What `read_pictures` returned.
        on_bad_image: `raise` stops at what cannot be used; `drop` leaves it out.

    Raises:
        DataError: With `raise`: some images cannot be used, or identical ones have different classes; all are named.
    """
    paths, classes = index["path"].tolist(), index["class_name"].tolist()
    readable = {row: item for row, item in enumerate(found) if isinstance(item, Picture)}
    spool_row = {row: position for position, row in enumerate(readable)}
    dropped = {row: Dropped(paths[row], "bad_image", item) for row, item in enumerate(found) if isinstance(item, str)}
    identical = defaultdict(list)
    for row, picture in readable.items():
        identical[picture.exact].append(row)
    for same in identical.values():
        if len({classes[row] for row in same}) > 1:
            for row in same:
                other = next(twin for twin in same if classes[twin] != classes[row])
                reason = f"has the same pixels as {paths[other]}, so its class is {classes[row]} or {classes[other]}"
                dropped[row] = Dropped(paths[row], "conflicting_class", reason)
    if dropped and on_bad_image == "raise":
        raise DataError(_complaint(list(dropped.values()), len(paths)))
    copies = []
    for first, *others in identical.values():
        if first not in dropped:
            copies += [(first, row) for row in others]
            dropped |= {row: Dropped(paths[row], "exact_duplicate", f"has the same pixels as {paths[first]}") for row in others}
    rows = [row for row in readable if row not in dropped]
    position = {row: number for number, row in enumerate(rows)}
    return Selection(
        rows=np.array(rows, np.int64),
        spool_rows=np.array([spool_row[row] for row in rows], np.int64),
        pictures=[readable[row] for row in rows],
        copies=[(position[first], row) for first, row in copies],
        dropped=[dropped[row] for row in sorted(dropped)],
    )


def write_images(spool: Path, spool_rows: np.ndarray, path: Path, prepared_px: int) -> str:
    """Copy the used images from the spool into a `.npy` file, some at a time.

    Returns:
        SHA-256 of the pixels, row by row, in hex.
    """
    digest, size = hashlib.sha256(), prepared_px**2
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(spool_rows), prepared_px, prepared_px)}
    with spool.open("rb") as source, path.open("wb") as target:
        np.lib.format.write_array_header_1_0(target, header)
        for row in spool_rows.tolist():
            source.seek(row * size)
            pixels = source.read(size)
            digest.update(pixels)
            target.write(pixels)
    return digest.hexdigest()


def _complaint(bad: list[Dropped], num_images: int) -> str:
    lines = [f"  {item.path}: {item.reason}" for item in sorted(bad, key=lambda item: item.path)[:_MAX_LISTED]]
    if len(bad) > _MAX_LISTED:
        lines.append(f"  ... and {len(bad) - _MAX_LISTED} more")
    way_out = "Repair or remove them, or set dataset.on_bad_image=drop to leave them out (listed in reports/dropped.csv)"
    return "\n".join([f"{len(bad)} of {num_images} images cannot be used:", *lines, way_out])
