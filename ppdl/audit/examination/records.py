"""What an audit leaves on disk: `audit.json` with all figures and `pictures.npz` with some images, one folder a protection."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ppdl.audit.examination.base import Target, Truth
from ppdl.audit.examination.examine import Audit

AUDIT_FILE, PICTURES_FILE = "audit.json", "pictures.npz"
NUM_PICTURES = 6  # images that the report shows, with what the attacks made of them
HEADLINES = ("psnr", "ssim", "advantage", "top1", "top5", "auc")
_WORDS = ("party", "surface", "needs", "knowledge", "source", "seconds", "leak", "unseen")


def write_audit(folder: Path, audit: Audit, target: Target, truth: Truth) -> None:
    """Write the figures and the pictures of an audit.

    audit.json holds protection, attacks ({attack: metrics}) and verdict. pictures.npz holds, for rows that every rebuilding attack has in
    common, rows (k,), original (k, height, width), seen (k, any height, any width) and rebuilt__ATTACK (k, height, width), all uint8 but
    the first. They show images of the set, so they belong where it may lie.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"protection": target.name, "attacks": audit.results, "verdict": asdict(audit.verdict)}
    (folder / AUDIT_FILE).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    common = np.arange(target.num_images)
    for found in audit.rebuilt.values():
        common = np.intersect1d(common, found.rows)
    rows = common[np.linspace(0, len(common) - 1, min(NUM_PICTURES, len(common))).round().astype(int)]
    pictures = {"rows": rows, "original": np.asarray(truth.images[rows]), "seen": np.asarray(target.picture[rows])}
    for name, found in audit.rebuilt.items():
        place = {row: i for i, row in enumerate(found.rows.tolist())}
        pictures[f"rebuilt__{name}"] = found.images[[place[row] for row in rows.tolist()]]
    np.savez_compressed(folder / PICTURES_FILE, **pictures)


def audit_metric(audits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return {protection: {attack: figures, verdict}} without the words about the attacks: what DVC compares between experiments."""
    return {
        name: {attack: {k: v for k, v in found.items() if k not in _WORDS} for attack, found in audit["attacks"].items()}
        | {"verdict": f"{audit['verdict']['level']}: {audit['verdict']['sentence']}"}
        for name, audit in audits.items()
    }


def headlines(audit: Mapping[str, Any]) -> dict[str, float]:
    """Return the few figures of an audit that stand beside an accuracy, such as best_ssim and seriation_ssim."""
    figures = {
        f"{attack}_{key}": found[key] for attack, found in audit["attacks"].items() for key in HEADLINES if found.get(key) is not None
    }
    best = audit["verdict"]["best_ssim"]
    return figures if best is None else {"best_ssim": best} | figures
