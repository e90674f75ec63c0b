"""Run the attacks that apply to anybody's "encrypted" images, with originals or without, and say what it means."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ppdl.audit.attacks.as_is import gray_rows
from ppdl.audit.examination import base
from ppdl.audit.examination.base import Attack, Rebuilt, Target, Truth
from ppdl.audit.examination.chance import rates
from ppdl.audit.examination.examine import examine
from ppdl.audit.examination.judge import Structure, compare, judge_structure, shuffled
from ppdl.audit.examination.setting import draw_known, draw_queries
from ppdl.audit.examination.verdict import ARTIFACT, BLIND, BROKEN, LEAKY, MARGIN, NOT_CONFIDENTIAL, REBUILT, UNBROKEN, judge, leaks, unseen

ATTACKS = (
    "blind",
    "as_is",
    "negative_positive",
    "jigsaw",
    "frequency",
    "seriation",
    "seriation_each",
    "keystream",
    "permutation",
    "own_histogram",
    "repeats",
    "planes",
    "class_leak",
    "cipher_metrics",
)  # on a folder of images
PAILLIER = ("key_size", "obfuscators")  # on ciphertexts that are whole numbers, too
MAPS = ("repeats",)  # which draw where something is, and no image
WITH_ORIGINALS = ("known_plaintext", "keystream_known", "permutation_known", "blocks_known", "learned", "linkage")
NUM_KNOWN, NUM_QUERIES = 20, 100  # images that an attacker knows, patients looked up; at most a half of the images
_IN_THE_CLEAR = frozenset({base.KNOWN, base.QUERIES})  # needs that are images of these patients in the clear
# Figures that compare with originals. Without any, an attack is scored against the picture itself, and these mean nothing.
_NEED_ORIGINALS = {
    "psnr",
    "ssim",
    "look",
    "rank_correlation",
    "images_needed",
    "by_count",
    "mutual_information",
    "mutual_information_shuffled",
}


@dataclass(frozen=True, eq=False)
class FolderAudit:
    """Hold what the attacks found: see ppdl.audit.examination.examine.Audit; level and sentence are the verdict's."""

    results: dict[str, dict[str, Any]]
    rebuilt: dict[str, Rebuilt]
    level: str
    sentence: str


def audit_folder(attacks: Mapping[str, Attack], target: Target, originals: np.ndarray | None, *, seed: int) -> FolderAudit:
    """Attack a set of images, and the same set with its pixels shuffled, against which success is measured.

    Args:
        attacks: by the name that the report gives them.
        target: what a thief has, with public images.
        originals: (num_images, height, width) uint8; None: attacks that need some of them, or are compared with them alone, are not run.
        seed: of the attackers' choices.
    """
    rng = np.random.default_rng([seed, 1])
    null = shuffled(target, rng)
    if originals is None:
        everything = np.arange(target.num_images)
        truth, null_truth = (Truth(gray_rows(each.picture, everything)) for each in (target, null))
        left_out = {name: attack for name, attack in attacks.items() if name == BLIND or attack.needs & _IN_THE_CLEAR}
        attacks = {name: attack for name, attack in attacks.items() if name not in left_out}
    else:
        target, truth = _with_known(target, originals, rng)
        null_truth = Truth(originals)
    found = examine(attacks, target, truth, seed=seed)
    drawn = found.rebuilt.keys() - {BLIND, *MAPS}
    blank = {name: attack for name, attack in attacks.items() if name in drawn and base.KNOWN not in attack.needs}
    on_null = examine(blank, replace(null, name="null"), null_truth, seed=seed)
    of_files = {name: row for name, row in found.results.items() if row["surface"] == ARTIFACT}  # nothing was revealed here
    results, structures = {name: _by_count(row) for name, row in of_files.items()}, {}
    for name in blank:
        theirs = on_null.rebuilt.get(name)
        structures[name] = compare(
            found.rebuilt[name].images,
            None if theirs is None else theirs.images,
            partial=results[name].get("partial", False),
            num_tests=len(attacks),
        )
        results[name] = results[name] | asdict(structures[name])
        if "ssim" in on_null.results[name]:
            results[name]["ssim_null"] = on_null.results[name]["ssim"]
    if originals is None:
        hidden = _NEED_ORIGINALS | {"ssim_null"}
        results = {name: {key: value for key, value in row.items() if key not in hidden} for name, row in results.items()}
        level, sentence = _with_counts(*judge_structure(structures), results)
        results |= {name: {"knowledge": attack.knowledge, "not_run": "needs --originals"} for name, attack in left_out.items()}
        return FolderAudit(results, found.rebuilt, level, sentence)
    return FolderAudit(results, found.rebuilt, *_verdict(results, structures))


def meaning(row: Mapping[str, Any]) -> str:
    """Say what one attack's figures mean, in a few words, by the rules of the verdict."""
    if "not_run" in row:
        return f"not run: {row['not_run']}"
    if "does_not_apply" in row:
        return f"does not apply: {row['does_not_apply']}"
    ssim, least = row.get("ssim"), row.get("ssim_null", 0.0)
    if ssim is not None and ssim >= REBUILT and ssim > least + MARGIN:
        return "images rebuilt"
    structure = f" (structure {row['structure']:.2f})" if {"ssim", "structure"} <= row.keys() else ""  # without originals it has a column
    if row.get("rebuilt"):
        return f"has the structure of images{structure}"
    if row.get("found"):
        return f"images show through in part{structure}"
    if leak := row.get("leak"):
        return str(leak)
    if "unseen" in row:
        return f"no success; would have seen {row['unseen']}"
    if "top1" in row:
        said = "" if row["top1"] >= row["top1_least"] else "no success: "
        return f"{said}finds {row['top1']:.0%} of patients, chance {row['chance_top1']:.1%} (counts from {row['top1_least']:.0%})"
    if "entropy" in row:
        return f"entropy {row['entropy']:.2f} of 8 bits, correlation {row['correlation_h']:.2f}; proves nothing"
    return "no success"


def _with_known(target: Target, originals: np.ndarray, rng: np.random.Generator) -> tuple[Target, Truth]:
    """Give the attacker some originals, for attacks that start from such, and the examiner all."""
    groups = np.arange(len(originals))
    half = len(originals) // 2
    if half < 1:
        return target, Truth(originals, groups)
    known = draw_known(originals, groups, min(NUM_KNOWN, half), rng)
    queries = draw_queries(originals, groups, min(NUM_QUERIES, half), rng)
    return replace(target, known=known, queries=queries.images), Truth(originals, groups, queries.groups, queries.rows)


def _by_count(row: Mapping[str, Any]) -> dict[str, Any]:
    """Let patients that are found count where chance would find as many once in `chance.FALSE_ALARM`, in the place of an interval."""
    if "top1" not in row:
        return dict(row)
    least, true = rates(row["num_queries"], row["chance_top1"])
    return {**row, "top1_least": least, "top1_found": max(true, least)}


def _verdict(results: Mapping[str, Mapping[str, Any]], structures: Mapping[str, Structure]) -> tuple[str, str]:
    """Return level and sentence where there are originals, by ppdl.audit.examination.verdict, and by structure where that finds nothing.

    What an attack reaches on shuffled pixels as well is no success, whatever its SSIM. Structure alone, without likeness to the originals,
    means at most that images show through. Where an attack without images in the clear rebuilds, the sentence is about it. Elsewhere what
    such attacks find is said first, structure and counts as without originals, since a thief needs no more for it.
    """
    judged = {name: dict(row) for name, row in results.items() if "does_not_apply" not in row}
    for row in judged.values():
        row["surface"] = ARTIFACT
        if "ssim" in row and row["ssim"] <= row.get("ssim_null", -1.0) + MARGIN:
            del row["ssim"]
        if "top1" in row and row["top1"] < row["top1_least"]:
            row["top1_low"] = 0.0
    verdict = judge(judged)
    if verdict.level == UNBROKEN:
        level, sentence = _with_counts(*judge_structure(structures), results)
        return UNBROKEN if level == UNBROKEN else LEAKY, sentence
    alone = {name: row for name, row in judged.items() if not _IN_THE_CLEAR.intersection(row["needs"])}
    likeness = judge({name: row | {"leak": None} for name, row in alone.items()})
    level, sentence = _with_counts(*judge_structure(structures), alone)
    if likeness.level == BROKEN or level == likeness.level == UNBROKEN:
        return verdict.level, verdict.sentence
    given = judge({name: row for name, row in judged.items() if name == BLIND or name not in alone})
    said = (
        ("", level, sentence),
        ("Beside the originals, ", likeness.level, likeness.sentence),
        ("No image in the clear was needed for that; with some, ", given.level, given.sentence),
    )
    texts = (intro + text.removeprefix(NOT_CONFIDENTIAL) for intro, level, text in said if level != UNBROKEN)
    return verdict.level, NOT_CONFIDENTIAL + " ".join(texts)


def _with_counts(level: str, sentence: str, results: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Add to a verdict on structure what was found by counting, or would have been."""
    if found := "; ".join(leaks(results)):
        return (LEAKY, f"{NOT_CONFIDENTIAL}{found}.") if level == UNBROKEN else (level, f"{sentence} Moreover, {found}.")
    limits = "; ".join(unseen(results))
    return level, f"{sentence} So would {limits}." if level == UNBROKEN and limits else sentence
