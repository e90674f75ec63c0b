"""What reports/report.html shows: the figures that other stages wrote, and the images that audits kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.errors import DataError
from ppdl.records.reading import read_arrays, read_object

REBUILT = "rebuilt__"
EXTERNAL_FILE = "external.json"
AUDIT_FILE, PICTURES_FILE = "audit.json", "pictures.npz"  # of the stages `audit` and `audit_head`


@dataclass(frozen=True, eq=False)
class Rebuilding:
    """Hold what one attack made of one image: (height, width) uint8, with PSNR in dB and SSIM to the original."""

    image: np.ndarray
    psnr: float
    ssim: float


@dataclass(frozen=True, eq=False)
class PictureRow:
    """Hold one image three times.

    Attributes:
        row: of the prepared data.
        original: (height, width) uint8.
        seen: what a thief sees, (any height, any width) or with 3 channels last, uint8.
        rebuilt: by attack.
    """

    row: int
    original: np.ndarray
    seen: np.ndarray
    rebuilt: Mapping[str, Rebuilding]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportContent:
    """Hold what the report shows.

    Attributes:
        metrics: reports/metrics.json.
        details: reports/evaluation/details.json.
        external: reports/external.json, by set of another hospital: what `metrics` has, and the drop.
        synthetic: the images are drawn, of nobody.
        audit: by branch, {"attacks": {attack: metrics}, "verdict": {"level", "sentence", "best_attack", "best_ssim"}}.
        pictures: by branch, some images.
        cost: by branch and step (encrypt, stem, reveal, pool, open, inference), what `recorded_cost` wrote.
        data: reports/data.json.
        config: the composed configuration as plain values, with nothing secret and no private path in it.
        provenance: git_commit (str or None), git_dirty (bool), hashes {path: hash}, versions {package: version}.
        figures: by name, PNG bytes: accuracy, confusion, roc, reliability, history, gradcam.
    """

    metrics: Mapping[str, Mapping[str, Any]]
    details: Mapping[str, Any]
    external: Mapping[str, Mapping[str, Mapping[str, Any]]]
    synthetic: bool
    audit: Mapping[str, Mapping[str, Any]]
    pictures: Mapping[str, list[PictureRow]]
    cost: Mapping[str, Mapping[str, Mapping[str, Any]]]
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    figures: Mapping[str, bytes]


def read_content(
    reports_dir: Path,
    earlier_dir: Path,
    branches: Iterable[str],
    *,
    measures: Mapping[str, Callable[[np.ndarray, np.ndarray], float]],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    figures: Mapping[str, bytes],
) -> ReportContent:
    """Read the files of a report; only those of the cost may lack.

    Args:
        reports_dir: with metrics.json, external.json and evaluation/details.json, which evaluation wrote.
        earlier_dir: with what earlier stages wrote: data.json, and of each branch cost/BRANCH/STEP.json, audit/BRANCH/audit.json and
            audit/BRANCH/pictures.npz.
        branches: protections and heads.
        measures: as for `read_pictures`.
        config, provenance, figures: As for `ReportContent`.

    Raises:
        DataError: a file lacks or is damaged.
    """
    audits = {name: earlier_dir / "audit" / name for name in branches}
    audit = {name: _read(folder / AUDIT_FILE) for name, folder in audits.items()}
    for name, found in audit.items():
        if not isinstance(found.get("attacks"), dict) or not isinstance(found.get("verdict"), dict):
            raise DataError(f"{audits[name] / AUDIT_FILE} must hold attacks and verdict, got {sorted(found)}: run `dvc repro` again")
    return ReportContent(
        metrics=_read(reports_dir / "metrics.json"),
        details=_read(reports_dir / "evaluation" / "details.json"),
        external=_read(reports_dir / EXTERNAL_FILE),
        synthetic=_is_synthetic(config["dataset"]),
        audit=audit,
        pictures={name: read_pictures(folder / PICTURES_FILE, measures) for name, folder in audits.items()},
        cost={name: {path.stem: _read(path) for path in sorted(earlier_dir.glob(f"cost/{name}/*.json"))} for name in audits},
        data=_read(earlier_dir / "data.json"),
        config=config,
        provenance=provenance,
        figures=figures,
    )


def read_pictures(path: Path, measures: Mapping[str, Callable[[np.ndarray, np.ndarray], float]]) -> list[PictureRow]:
    """Read the images that an audit kept.

    Args:
        path: pictures.npz with rows (k,), original (k, height, width), seen (k, any height, any width[, 3]) and rebuilt__ATTACK
            (k, height, width) of each attack that rebuilt images.
        measures: psnr and ssim, functions of the original and the rebuilt image.

    Raises:
        DataError: the file lacks, is damaged, lacks an array, or holds one of another shape or type.
    """
    arrays = read_arrays(path, DataError, names=None, missing="run the stage `audit`", damaged="run the stage `audit` again")
    _check_pictures(path, arrays)
    attacks = {name.removeprefix(REBUILT): images for name, images in arrays.items() if name.startswith(REBUILT)}
    rows = []
    for i, row in enumerate(arrays["rows"].tolist()):
        original = arrays["original"][i]
        rebuilt = {
            attack: Rebuilding(images[i], **{name: float(measure(original, images[i])) for name, measure in measures.items()})
            for attack, images in attacks.items()
        }
        rows.append(PictureRow(row, original, arrays["seen"][i], rebuilt))
    return rows


def _check_pictures(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    if missing := sorted({"rows", "original", "seen"} - arrays.keys()):
        raise DataError(f"{path} must hold rows, original and seen, and lacks {', '.join(missing)}; run the stage `audit` again")
    if arrays["rows"].ndim != 1 or arrays["rows"].dtype.kind not in "iu":
        raise DataError(f"{path}: rows must be integers in one dimension, got {arrays['rows'].dtype} {arrays['rows'].shape}")
    count, original = len(arrays["rows"]), arrays["original"]
    if original.ndim != 3:
        raise DataError(f"{path}: original must be (images, height, width), got {original.shape}")
    for name, images in arrays.items():
        if name == "rows":
            continue
        fits = images.ndim == 3 or images.shape[3:] == (3,) if name == "seen" else images.shape == original.shape
        if images.dtype != np.uint8 or not fits or len(images) != count:
            shape = f"({count}, height, width) or ({count}, height, width, 3)" if name == "seen" else str((count, *original.shape[1:]))
            raise DataError(f"{path}: {name} must be uint8 {shape}, got {images.dtype} {images.shape}; run the stage `audit` again")


def _is_synthetic(dataset: Any) -> bool:
    """Tell whether a dataset, or one that it is made from, draws its images."""
    if not isinstance(dataset, Mapping):
        return False
    return "phantom" in str(dataset.get("_target_", "")).lower() or any(_is_synthetic(value) for value in dataset.values())


def _read(path: Path) -> dict[str, Any]:
    return read_object(path, DataError, missing="run `dvc repro` first", damaged="delete it and run `dvc repro`")
