"""What stands in the sections of reports/report.html, from the figures alone: no rule here knows a protection's or an attack's name."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import yaml
from matplotlib.figure import Figure

from ppdl.evaluation.figures.frontier import FrontierPoint, plot_frontier, plot_inversion
from ppdl.evaluation.measures.controls import FAILED_BEFORE
from ppdl.evaluation.measures.permutation import AT_CHANCE, BEATS_CHANCE, CANNOT_TELL
from ppdl.evaluation.report.formatting import data_uri, listed, plain, words
from ppdl.evaluation.report.insight import SHORTCUT, shortcut_sentence
from ppdl.evaluation.report.pictures import picture_sections

if TYPE_CHECKING:
    from ppdl.evaluation.report.content import ReportContent

DPI = 160
FEW_GROUPS = 30
CIPHER_METRICS = "cipher_metrics"
CIPHER_REMARKS = {"needs", "ideal", "note", "num_scored", "knowledge", "source", "surface", "seconds"}
SHOWN = {  # of an attack's figures, in the other tables
    *("ssim", "psnr", "advantage", "top1", "top5"),
    *("advantage_low", "advantage_high", "top1_low", "top1_high", "top5_low", "top5_high", "chance_top1", "chance_top5"),
    *("advantage_least", "advantage_found", "top1_least", "top1_found"),
    *("auc", "auc_low", "auc_high", "auc_least", "auc_found", "party"),
    *("knowledge", "needs", "source", "surface", "does_not_apply", "by_count", "union"),
}
_CHANCE = 0.5  # area under the ROC curve
STEPS = ("encrypt", "stem", "reveal", "pool", "open", "inference")
LEARNED, NOT_LEARNED, UNDECIDED, PRIVATE, POOLED = "learned", "not learned", "undecided", "private", "pooled"
SUMMARY = {
    LEARNED: "A network learned from {}.",
    NOT_LEARNED: "A network learned nothing from {}: it stays at chance there.",
    UNDECIDED: "Whether a network learned from {} cannot be told from so few patients.",
    PRIVATE: "Test images of {} were classified on ciphertexts, by a head that was trained on plain features.",
    POOLED: "Test images of {} were classified on ciphertexts, by a head that was trained on sums under encryption: the key holder saw one "
    "total over all hospitals' films.",
    "broken": "Attackers rebuilt the images of {}.",
    "view": "Attackers rebuilt the images of {} from the view that its network was given.",
    "pool": "Some parties can tell whose films {} was trained on.",
    "leaky": "Attackers got something out of {}.",
    "unbroken": "No attack here got anything out of {}, which is no proof that none can.",
}


def sections(content: ReportContent) -> dict[str, Any]:
    """Return what the template draws: the content, and what follows from it."""
    metrics = content.metrics
    runs = [name for name in metrics if name != "baselines"]
    tested = {run: metrics[run] for run in runs if SHORTCUT in metrics[run]}
    return vars(content) | {
        "runs": runs,
        "summary": _summary(content),
        "few": _few(content),
        "pictures": picture_sections(content),
        "controls": [_control(run, metrics[run]) for run in runs if "permutation_p" in metrics[run]],
        "figures": {name: data_uri(png) for name, png in content.figures.items()},
        "calibrated": {run: metrics[run] for run in runs if "temperature" in metrics[run]},
        "tested": tested,
        "shortcuts": [shortcut_sentence(run, found) for run, found in tested.items()],
        "attacks": _attacks(content),
        "of_parties": _of_parties(content),
        "further": _further(content),
        "by_count": _by_count(content),
        "curves": _curves(content),
        "frontier": _frontier(content, runs),
        "costs": [
            {"protection": name, "step": step, **steps[step]} for name, steps in content.cost.items() for step in STEPS if step in steps
        ],
        "cipher": _cipher(content),
        "config": yaml.safe_dump(content.config, sort_keys=False, allow_unicode=True),
    }


def _results(content: ReportContent) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield the figures of each attack on each protection: (protection, attack, figures)."""
    for name, audit in content.audit.items():
        for attack, found in audit["attacks"].items():
            yield name, attack, found


def _summary(content: ReportContent) -> list[str]:
    """Answer the question of the title."""
    names: dict[str, list[str]] = {}
    for name, audit in content.audit.items():
        for said in (_learned(content, name), _given_away(audit)):
            names.setdefault(said, []).append(name)
    return [text.format(listed(names[said])) for said, text in SUMMARY.items() if said in names]


def _given_away(audit: Mapping[str, Any]) -> str:
    """Return the verdict's level; of one that is leaky, whether a view gives the images away, or sums tell whose films are in them."""
    level, attacks = audit["verdict"]["level"], audit["attacks"]
    if level != "leaky":
        return str(level)
    if attacks.get(audit["verdict"]["best_attack"], {}).get("surface") == "view":
        return "view"
    return "pool" if any(found.get("auc_low", 0) > _CHANCE for found in attacks.values()) else str(level)


def _few(content: ReportContent) -> int | None:
    """Return how many groups were tested where they are so few that a share's interval is wider than a third."""
    tested = int(next((found["num_groups"] for name, found in content.metrics.items() if name != "baselines"), FEW_GROUPS))
    return tested if tested < FEW_GROUPS else None


def _learned(content: ReportContent, name: str) -> str:
    """Say whether a run's accuracy, or by the permutation test its predictions, are above chance.

    That it learned nothing is said where these images show what there is to learn: the reference lies above all of the run's interval.
    """
    if (head := (content.config.get("heads") or {}).get(name)) is not None:  # no network learned from ciphertexts
        return POOLED if "pooling" in head else PRIVATE
    if control := content.metrics[name].get("control"):
        return {AT_CHANCE: NOT_LEARNED, CANNOT_TELL: UNDECIDED}.get(control, LEARNED)
    found, reference = content.metrics[name], content.metrics.get(content.details["reference"])
    if found["accuracy_low"] > content.metrics["baselines"]["chance"]["accuracy"]:
        return LEARNED
    return NOT_LEARNED if reference and reference["accuracy_low"] > found["accuracy_high"] else UNDECIDED


def _control(name: str, found: Mapping[str, Any]) -> str:
    test = f"permutation test over groups, p = {found['permutation_p']:.2g}"
    said = {
        AT_CHANCE: f"is at chance ({test}). That is no evidence of a leak, and no proof that there is none.",
        BEATS_CHANCE: f"BEATS chance ({test}). Something leaks: trust no figure of this page.",
        FAILED_BEFORE: f"BEAT chance before, on this artifact; another training ({test}) does not undo that. Trust no figure of this page.",
        CANNOT_TELL: f"was not tested: these images cannot tell ({test}; a network that knows every label gets "
        f"{found.get('permutation_best_p', 1):.2g}). It counts as not passed; test more patients of each class.",
    }
    return f"Negative control: {name} {said[found['control']]}"


def _attacks(content: ReportContent) -> list[dict[str, Any]]:
    """Return a row for each attack but those of a party: its figures on each protection, None where it was not run."""
    knowledge: dict[str, str] = {}
    for _, attack, found in _results(content):
        if "party" not in found:
            knowledge[attack] = knowledge.get(attack) or found.get("knowledge", "")
    return [
        {"attack": attack, "knowledge": known, "cells": [audit["attacks"].get(attack) for audit in content.audit.values()]}
        for attack, known in knowledge.items()
        if attack != CIPHER_METRICS
    ]


def _of_parties(content: ReportContent) -> dict[str, dict[str, Any]]:
    """Return for each protection the figures of the attacks that parties of its protocol make, by attack."""
    found: dict[str, dict[str, Any]] = {}
    for name, attack, figures in _results(content):
        if "party" in figures:
            found.setdefault(name, {})[attack] = figures
    return found


def _further(content: ReportContent) -> list[dict[str, Any]]:
    """Return all figures of the attacks that no other table shows."""
    found = []
    for name, attack, figures in _results(content):
        rest = {words(key): value for key, value in figures.items() if key not in SHOWN and not _is_view_curve(value)}
        tables = {key: _table(value) for key, value in rest.items() if _is_table(value)}
        values = {key: plain(value) for key, value in rest.items() if not isinstance(value, list)}
        if attack != CIPHER_METRICS and (set(values) - {"seconds"} or tables):
            found.append({"title": f"{words(attack)} on {name}", "values": values, "tables": tables})
    return found


def _is_table(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _is_view_curve(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return _is_table(value) and all("ssim" in entry and ("stride" in entry or "noise" in entry) for entry in value)


def _table(entries: list[Mapping[str, Any]]) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    return {"columns": keys, "rows": [[entry.get(key) for key in keys] for entry in entries]}


def _by_count(content: ReportContent) -> dict[str, dict[str, Any]]:
    """Return a table for each attack that was tried with several numbers of images."""
    tables: dict[str, dict[str, Any]] = {}
    for name, attack, found in _results(content):
        if "by_count" in found:
            table = tables.setdefault(attack, {"knowledge": found.get("knowledge", ""), "counts": list(found["by_count"]), "rows": {}})
            table["rows"][name] = found["by_count"]
    return tables


def _curves(content: ReportContent) -> list[dict[str, Any]]:
    """Return what revealed views give back over stride and noise."""
    return [
        {
            "protection": name,
            "attack": attack,
            "knowledge": found.get("knowledge", ""),
            "figure": _png(plot_inversion(found["curve"])),
            "table": _table(found["curve"]),
            "union": _table(found["union"]) if found.get("union") else None,
        }
        for name, attack, found in _results(content)
        if _is_view_curve(found.get("curve"))
    ]


def _frontier(content: ReportContent, runs: list[str]) -> dict[str, Any]:
    """Draw one point a run, the reference at SSIM 1; name the runs that no attacker's SSIM is known of."""
    reference, branches = content.details["reference"], content.details["branches"]
    points, left_out = [], []
    for run in runs:
        found, audit = content.metrics[run], content.audit.get(branches[run])
        ssim = 1.0 if run == reference else audit["verdict"]["best_ssim"] if audit else None
        if ssim is None:
            left_out.append(run)
        else:
            points.append(FrontierPoint(run, found["accuracy"], found["accuracy_low"], found["accuracy_high"], ssim, branches[run]))
    figure = _png(plot_frontier(points, chance=content.metrics["baselines"]["chance"]["accuracy"])) if points else ""
    return {"figure": figure, "points": points, "left_out": left_out}


def _cipher(content: ReportContent) -> dict[str, Any]:
    """Return cipher metrics as rows, protections as columns, and the ideals that the audit gives."""
    found = {name: metrics for name, attack, metrics in _results(content) if attack == CIPHER_METRICS}
    quiet = {name: metrics["does_not_apply"] for name, metrics in found.items() if "does_not_apply" in metrics}
    applied = {name: metrics for name, metrics in found.items() if name not in quiet}
    rows = []
    for key in dict.fromkeys(key for metrics in applied.values() for key in metrics if key not in CIPHER_REMARKS):
        ideals = [_ideal(key, metrics["ideal"]) for metrics in applied.values()]
        # of images of another size another ideal: then each value stands with its own
        same = len(set(ideals)) == 1
        values = [(metrics.get(key), "" if same else ideal) for metrics, ideal in zip(applied.values(), ideals, strict=True)]
        rows.append({"name": key, "values": values, "ideal": ideals[0] if same else "in brackets"})
    remark = next((metrics["note"] for metrics in applied.values() if "note" in metrics), "")
    return {"protections": list(applied), "rows": rows, "remark": remark, "quiet": quiet}


def _ideal(name: str, ideals: Mapping[str, Any]) -> str:
    """Return the ideal of correlation_h from that of correlation."""
    return plain(ideals[max(known, key=len)]) if (known := [key for key in ideals if name.startswith(key)]) else ""


def _png(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return data_uri(stream.getvalue())
