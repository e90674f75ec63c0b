"""Lung masks: which pixels of an image are lung, for the tests that ask whether a network looks there.

A dataset that has masks writes them beside its images: the mask of `CLASS/images/NAME.EXT` is `CLASS/masks/NAME.png`, of any size and the
same field of view. A pixel belongs to the lungs where it is at least half as bright as the brightest one. An image may lack its mask;
no network is trained on masks.
"""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from ppdl.datasets.images.gray import BadImageError
from ppdl.datasets.images.image_io import read_gray, side_by_side
from ppdl.datasets.prepared.resize import area_resize

MASKS_FOLDER = "masks"
_log = logging.getLogger(__name__)


def mask_path(image_path: str) -> str:
    """Return where the mask of `CLASS/images/NAME.EXT`, or of `CLASS/NAME.EXT`, is, if there is one."""
    path = PurePosixPath(image_path)
    return f"{path.parts[0]}/{MASKS_FOLDER}/{path.stem}.png"


def have_masks(raw_dir: Path, paths: Sequence[str]) -> bool:
    """Tell whether any of the images has a mask."""
    return any((raw_dir / mask_path(path)).is_file() for path in paths)


def write_masks(raw_dir: Path, paths: Sequence[str], out_path: Path, *, prepared_px: int, num_workers: int) -> int:
    """Write the masks of images to one `.npy`, (num_images, prepared_px, prepared_px) uint8: 255 times the share of a pixel that is lung.

    An image without a mask, or with one that cannot be read or is empty, gets zeros; a warning says how many there are.

    Args:
        paths: Of the images, relative to `raw_dir`, in the order of the prepared images.
        num_workers: Threads that decode; -1 takes one a core.

    Returns:
        Number of images with a mask.

    Cost: about 1 ms a core and mask of 256 x 256; memory independent of their number.
    """

    def read(path: str) -> np.ndarray | None:
        try:
            gray = read_gray(raw_dir / mask_path(path))
        except BadImageError:  # which an image of one gray value is, too
            return None
        return area_resize(np.where(gray >= gray.max() / 2, np.uint8(255), np.uint8(0)), prepared_px)

    header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), prepared_px, prepared_px)}
    without: list[str] = []
    with out_path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        masks = tqdm(side_by_side(read, paths, num_workers), total=len(paths), desc="read masks", unit="mask")
        for path, mask in zip(paths, masks, strict=True):
            if mask is None:
                without.append(path)
            file.write(bytes(prepared_px**2) if mask is None else mask.tobytes())
    if without:
        _log.warning(
            "%d of %d images have no lung mask that can be read (the first: %s); the tests of the lungs leave them out",
            len(without),
            len(paths),
            without[0],
        )
    return len(paths) - len(without)
