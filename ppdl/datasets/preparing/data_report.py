"""Report what the split stage made of the raw images: `data.json`, `dropped.csv` and a picture."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ppdl.datasets.prepared.splitting import SPLITS, Split
from ppdl.datasets.preparing.scan import Selection
from ppdl.records.atomic import replacing

_IMAGES_A_CLASS = 8
_log = logging.getLogger(__name__)


def write_report(
    report_dir: Path,
    images: np.ndarray,
    index: pd.DataFrame,
    class_names: Sequence[str],
    selection: Selection,
    clusters: np.ndarray,
    split: Split,
    counts: Mapping[str, int],
) -> None:
    """Write `data.json`, `dropped.csv` and `data/contact_sheet.png` below `report_dir`.

    The contact sheet shows images: it is as confidential as they are.

    Args:
        images: (num_images, prepared_px, prepared_px) uint8.
        index: The index of the prepared images.
        clusters: (num_images,) cluster of near duplicates of each image.
        counts: `num_masks`, images with a lung mask, and `num_without_patient`, images whose patient is unknown.
    """
    (report_dir / "data").mkdir(parents=True, exist_ok=True)
    _warn(summary := summarise(index, class_names, selection, clusters, split, counts))
    with replacing(report_dir / "data.json") as path:
        path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_dropped(report_dir, selection)
    with replacing(report_dir / "data/contact_sheet.png") as path:
        sheet = draw_contact_sheet(images, index, class_names, split.seed)
        sheet.savefig(path, format="png", dpi=120, metadata={"Software": None})  # no version: the same bytes, so DVC sees no change


def write_dropped(folder: Path, selection: Selection) -> None:
    """Write `dropped.csv`: each image that is not used, with the reason."""
    dropped = pd.DataFrame([(item.path, item.reason) for item in selection.dropped], columns=["path", "reason"])
    with replacing(folder / "dropped.csv") as path:
        dropped.to_csv(path, index=False, lineterminator="\n")


def summarise(
    index: pd.DataFrame, class_names: Sequence[str], selection: Selection, clusters: np.ndarray, split: Split, counts: Mapping[str, int]
) -> dict[str, Any]:
    """Return the content of `data.json`: numbers (a DVC metric) and, as lists, the files that they count."""
    sizes = np.bincount(clusters)
    members = [np.flatnonzero(clusters == cluster) for cluster in np.flatnonzero(sizes > 1)]
    kinds = [item.kind for item in selection.dropped]
    labels, names = index["label"].to_numpy(), index["split"].to_numpy()
    for_processing = [path for path, picture in zip(index["path"], selection.pictures, strict=True) if picture.for_processing]
    return {
        "num_raw": len(index) + len(selection.dropped),
        "num_images": len(index),
        **counts,
        "num_enlarged": sum(picture.enlarged for picture in selection.pictures),
        "num_for_processing": len(for_processing),
        "num_groups": int(index["group"].nunique()),
        "largest_group": int(index["group"].value_counts().max()),
        "dropped": {kind: kinds.count(kind) for kind in ("bad_image", "exact_duplicate", "conflicting_class")},
        "near_duplicates": {
            "max_bits": split.near_duplicate_bits,
            "num_clusters": len(members),
            "num_images": int(sizes[sizes > 1].sum()),
            "largest_cluster": int(sizes.max()),
            "num_mixed_class_clusters": sum(len(set(labels[rows])) > 1 for rows in members),
        },
        "images": {
            part: {name: int(np.sum((names == part) & (labels == label))) for label, name in enumerate(class_names)} for part in SPLITS
        },
        "groups": {part: int(index["group"][names == part].nunique()) for part in SPLITS},
        "dropped_files": [{"path": item.path, "kind": item.kind, "reason": item.reason} for item in selection.dropped],
        "for_processing_files": for_processing,
        "near_duplicate_clusters": [index["path"].iloc[rows].tolist() for rows in members],
    }


def draw_contact_sheet(images: np.ndarray, index: pd.DataFrame, class_names: Sequence[str], seed: int) -> Figure:
    """Draw a row of images for each class, chosen at random, each under its file name and split.

    Args:
        images: (num_images, prepared_px, prepared_px) uint8.
    """
    rng = np.random.default_rng(seed)
    engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)
    figure = Figure(figsize=(1.5 * _IMAGES_A_CLASS, 1.82 * len(class_names) + 0.1), layout=engine)
    grid = figure.subplots(len(class_names), _IMAGES_A_CLASS, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for label, name in enumerate(class_names):
        rows = np.flatnonzero(index["label"].to_numpy() == label)
        grid[label, 0].set_ylabel(name.replace("_", " "), fontsize=10, parse_math=False)
        for axes, row in zip(grid[label], np.sort(rng.permutation(rows)[:_IMAGES_A_CLASS]), strict=False):
            axes.imshow(images[row], cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
            title = f"{_short(Path(index['path'].iat[row]).name)}\n{index['split'].iat[row]}"
            axes.set_title(title, fontsize=6.5, pad=2, parse_math=False)  # a file name may hold a $
    return figure


def _short(name: str, length: int = 24) -> str:
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-(length - length // 2) :]}"


def _warn(summary: dict[str, Any]) -> None:
    """Log what a user should look at."""
    near, dropped = summary["near_duplicates"], sum(summary["dropped"].values())
    if dropped:
        _log.warning("%d of %d images are not used: %s (see dropped.csv)", dropped, summary["num_raw"], summary["dropped"])
    if summary["num_enlarged"]:
        _log.warning("%d images are smaller than the prepared size and were enlarged", summary["num_enlarged"])
    if summary["num_without_patient"]:
        said = "%d of %d images name no patient: one patient's may be in training and in test, and figures too good (see dataset.patients)"
        _log.warning(said, summary["num_without_patient"], summary["num_images"])
    if summary["num_for_processing"]:
        _log.warning(
            "%d images are FOR PROCESSING (DICOM's Presentation Intent Type), so not as a viewer shows them: see data.json",
            summary["num_for_processing"],
        )
    if near["num_mixed_class_clusters"]:
        _log.warning("%d clusters of near duplicates hold several classes: see data.json", near["num_mixed_class_clusters"])
    if near["largest_cluster"] > max(10, 0.05 * summary["num_images"]):
        _log.warning(
            "a cluster of near duplicates holds %d of %d images: split.near_duplicate_bits=%d may be too large",
            *(near["largest_cluster"], summary["num_images"], near["max_bits"]),
        )
