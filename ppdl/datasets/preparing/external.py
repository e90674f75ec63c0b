"""Images of another hospital, prepared as those of the set are, to test on: no training sees them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ppdl.datasets.prepared.arrays import COLUMNS, IMAGES_NAME, Prepared
from ppdl.datasets.preparing.data_report import write_dropped
from ppdl.datasets.preparing.duplicates import join_groups, near_pairs, perceptual_hash
from ppdl.datasets.preparing.prepare import Written, write_prepared
from ppdl.datasets.preparing.scan import Selection
from ppdl.errors import DataError

MIN_GROUPS = 2  # from fewer no interval follows
_MAX_NAMED = 5
_log = logging.getLogger(__name__)


def prepare_external(
    name: str, raw_dir: Path, out_dir: Path, own: Prepared, *, near_duplicate_bits: int, on_bad_image: str, params: dict[str, Any]
) -> None:
    """Prepare the raw images of another hospital; all of them become test images, with the labels of the set.

    Groups are what patients and near duplicates connect.

    Args:
        name: In the configuration, for messages.
        raw_dir: What `Dataset.write_raw` wrote.
        out_dir: Gets what `load_prepared` reads, also lung masks where there are some, and `dropped.csv`: what is not used, with reasons.
        own: The images that runs are trained and tested on. Near duplicates are looked for at their size.
        near_duplicate_bits, on_bad_image: As for the set itself.
        params: Configuration to record; JSON types.

    Raises:
        DataError: The classes are not those of the set, a film is a near duplicate of one of the set, an image cannot be used, or there are
            fewer than 2 groups.

    Cost: see `prepare`, and 1 ms a film for the hashes of both sets.
    """

    def all_for_testing(raw: pd.DataFrame, selection: Selection) -> tuple[pd.DataFrame, list[str]]:
        _check_classes(name, raw, own)
        used = raw.iloc[selection.rows]
        pairs = near_pairs(np.stack([picture.perceptual for picture in selection.pictures]), near_duplicate_bits)
        patients = list(enumerate(used["patient"])) + [(kept, raw["patient"].iat[row]) for kept, row in selection.copies]
        groups = join_groups(len(used), pairs, [(image, patient) for image, patient in patients if patient])
        if (found := len(np.unique(groups))) < MIN_GROUPS:
            raise DataError(
                f"evaluation.external.{name} needs films of {MIN_GROUPS} patients at least, or no interval follows; got {found}"
            )
        labels = used["class_name"].map({known: label for label, known in enumerate(own.class_names)}).to_numpy(np.int64)
        index = used[["path", "class_name"]].assign(label=labels, group=groups, fold=-1, split="test")
        return index[list(COLUMNS)].reset_index(drop=True), list(own.class_names)

    def report(written: Written) -> None:
        images = np.load(out_dir / IMAGES_NAME, mmap_mode="r", allow_pickle=False)
        _refuse_known(name, images, written.index, own, near_duplicate_bits)
        write_dropped(out_dir, written.selection)
        if lost := len(written.selection.dropped):
            _log.warning("evaluation.external.%s: %d images are not used, see %s", name, lost, out_dir / "dropped.csv")

    px = own.images.shape[1]
    write_prepared(raw_dir, out_dir, all_for_testing, report, prepared_px=px, on_bad_image=on_bad_image, params=params)


def _check_classes(name: str, raw: pd.DataFrame, own: Prepared) -> None:
    found, known = list(dict.fromkeys(raw["class_name"])), list(own.class_names)
    wrong = {"lacks": [c for c in known if c not in found], "has beside them": [c for c in found if c not in known]}
    if any(wrong.values()):
        said = " and ".join(f"{what} {', '.join(classes)}" for what, classes in wrong.items() if classes)
        raise DataError(
            f"evaluation.external.{name} must have the classes of the data set, {', '.join(known)}, and {said}: rename its class folders, "
            f"or choose of them with evaluation.external.{name}.classes (of the set with dataset.classes)"
        )


def _refuse_known(name: str, images: np.ndarray, index: pd.DataFrame, own: Prepared, near_duplicate_bits: int) -> None:
    """Refuse films that are near duplicates of the set's, by the perceptual hash of the prepared images."""
    both = np.stack([perceptual_hash(np.asarray(image)) for films in (own.images, images) for image in films])
    pairs = near_pairs(both, near_duplicate_bits)
    first, second = pairs[(pairs[:, 0] < len(own.images)) & (pairs[:, 1] >= len(own.images))].T
    if not len(first):
        return
    films = dict(zip(second - len(own.images), first, strict=True))  # one film of the set for each
    named = [f"{index['path'][i]} is {own.index['path'][k]} ({own.index['split'][k]})" for i, k in films.items()]
    more = f", and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
    raise DataError(
        f"evaluation.external.{name} must hold films that no training has seen, but {len(named)} of {len(images)} are near "
        f"duplicates of films of the data set (at most split.near_duplicate_bits = {near_duplicate_bits} of 256 bits apart): "
        f"{', '.join(named[:_MAX_NAMED])}{more}; take them out of one of the two"
    )
