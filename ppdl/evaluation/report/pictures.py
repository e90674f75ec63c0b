"""The pictures of reports/report.html: original, what a thief sees, what attackers rebuild, pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ppdl.evaluation.report.formatting import data_uri, png

if TYPE_CHECKING:
    from ppdl.evaluation.report.content import PictureRow, ReportContent

MAX_ROWS = 4
MAX_ATTACKS = 3
DETAIL_PX = 160  # a larger picture of ciphertexts is cut, not shrunk: shrunk noise would look like gray
PICTURE_BYTES = 420_000  # PNGs of one protection; with three of them and the figures the page stays below 3 MB


def picture_sections(content: ReportContent) -> list[dict[str, Any]]:
    """Return, for each protection, its best attackers and some rows of pictures as data URIs."""
    return [_section(content, name, rows) for name, rows in content.pictures.items() if rows]


def _section(content: ReportContent, name: str, rows: list[PictureRow]) -> dict[str, Any]:
    audit = content.audit[name]
    results, attacks = audit["attacks"], _best_first(rows, audit["verdict"]["best_attack"])
    said = [{"name": attack, "knowledge": results.get(attack, {}).get("knowledge", "")} for attack in attacks]
    drawn: list[dict[str, Any]] = []
    left = PICTURE_BYTES
    for row in rows[:MAX_ROWS]:
        pictures = [row.original, row.seen[:DETAIL_PX, :DETAIL_PX], *(row.rebuilt[attack].image for attack in attacks)]
        pngs = [png(picture) for picture in pictures]
        left -= sum(map(len, pngs))
        if drawn and left < 0:
            break
        drawn.append(_row(row, pngs, attacks))
    return {"name": name, "attacks": said, "rows": drawn}


def _best_first(rows: list[PictureRow], best: str | None) -> list[str]:
    """Return some attacks, first the one that the verdict names, then by SSIM."""
    common = [attack for attack in rows[0].rebuilt if all(attack in row.rebuilt for row in rows)]
    ssim = {attack: float(np.mean([row.rebuilt[attack].ssim for row in rows])) for attack in common}
    return sorted(common, key=lambda attack: (attack != best, -ssim[attack]))[:MAX_ATTACKS]


def _row(row: PictureRow, pngs: list[bytes], attacks: list[str]) -> dict[str, Any]:
    original, seen, *rebuilt = map(data_uri, pngs)
    return {
        "row": row.row,
        "original": original,
        "seen": seen,
        "seen_shape": row.seen.shape[:2],
        "is_cut": max(row.seen.shape[:2]) > DETAIL_PX,
        "shape": row.original.shape,
        "rebuilt": [
            {"attack": attack, "uri": uri, "psnr": row.rebuilt[attack].psnr, "ssim": row.rebuilt[attack].ssim}
            for attack, uri in zip(attacks, rebuilt, strict=True)
        ],
    }
