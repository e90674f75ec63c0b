"""What stands in the sections of reports/report.html, from the figures alone: no rule here knows a protection's or an attack's name."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import yaml
from matplotlib.figure import Figure

from ppdl.evaluation.figures.frontier import FrontierPoint, plot_frontier, plot_inversion
from ppdl.evaluation.measures.controls import FAILED_BEFORE
from ppdl.evaluation.measures.permutation import AT_CHANCE, BEATS_CHANCE, CANNOT_TELL
from ppdl.evaluation.report.formatting import data_uri, fixed, interval, percent, plain, words
from ppdl.evaluation.report.insight import calibration_rows, insight_section
from ppdl.evaluation.report.pictures import picture_sections

if TYPE_CHECKING:
    from ppdl.evaluation.report.content import ReportContent

DPI = 160
BASELINES = {"border": "border only", "chance": "chance"}
CIPHER_METRICS = "cipher_metrics"
CIPHER_REMARKS = {"needs", "ideal", "note", "num_scored", "knowledge", "source", "surface", "seconds"}
UNAUDITED = "unaudited"
LEVELS = {"broken": "broken", "leaky": "leaky", "unbroken": "not broken", UNAUDITED: "not attacked"}
HEADLINES = ("ssim", "psnr", "advantage", "top1", "top5")  # what the table of attacks shows
SHOWN = {
    *HEADLINES,
    *("advantage_low", "advantage_high", "top1_low", "top1_high", "top5_low", "top5_high", "chance_top1", "chance_top5"),
    *("advantage_least", "advantage_found", "top1_least", "top1_found"),
    *("knowledge", "needs", "source", "surface", "does_not_apply", "by_count", "curve", "union"),
}
BLIND = "blind"  # the attack that guesses


def sections(content: ReportContent) -> dict[str, Any]:
    """Return what the template draws."""
    names = protections_of(content)
    cards = [_card(content, name) for name in names]
    return {
        "reference": _reference(content),
        "chance": content.metrics.get("baselines", {}).get("chance", {}).get("accuracy"),
        "baselines": content.metrics.get("baselines", {}),
        "plain": content.metrics.get(_reference(content)),
        "synthetic": content.synthetic,
        "data": content.data,
        "cards": cards,
        "summary": _summary(cards),
        "levels": LEVELS,
        "pictures": picture_sections(content),
        "accuracy": _accuracy(content),
        "controls": [_control(name, found) for name, found in content.metrics.items() if "permutation_p" in found],
        "sentences": [found["sentence"] for found in content.details.get("comparisons", {}).values() if found.get("sentence")],
        "method": content.details.get("method", ""),
        "figures": {name: data_uri(png) for name, png in content.figures.items()},
        "calibration": calibration_rows(content.metrics, _runs(content)),
        "insight": insight_section(content.metrics, _runs(content)),
        "attacks": _attacks(content),
        "further": _further(content),
        "by_count": _by_count(content),
        "curves": _curves(content),
        "frontier": _frontier(content, names),
        "cost": _cost(content),
        "cipher": _cipher(content),
        "provenance": dict.fromkeys(("git_commit", "git_dirty", "command", "hashes", "versions")) | dict(content.provenance),
        "config": yaml.safe_dump(_builtin(content.config), sort_keys=False, allow_unicode=True) if content.config else "",
    }


def protections_of(content: ReportContent) -> list[str]:
    """Return the branches of the runs, but for the reference, in the order of the metrics, and then what else was audited."""
    trained = (_branch_of(content, run) for run in _runs(content) if run != _reference(content))
    return list(dict.fromkeys([*trained, *content.audit]))


def _branch_of(content: ReportContent, run: str) -> str:
    """Return the branch of a run, as evaluation recorded it: that of "deterministic-bytes" is "deterministic"."""
    return content.details["branches"][run]


def _runs(content: ReportContent) -> list[str]:
    return [name for name in content.metrics if name != "baselines"]


def _reference(content: ReportContent) -> str:
    return content.details.get("reference", "plain")


def _attack_results(content: ReportContent, name: str) -> Mapping[str, Mapping[str, Any]]:
    return content.audit.get(name, {}).get("attacks", {})


def _verdict(content: ReportContent, branch: str) -> Mapping[str, Any]:
    """Return what the attacks on a branch came to; nothing where it was not attacked."""
    return content.audit.get(branch, {}).get("verdict", {})


def _card(content: ReportContent, name: str) -> dict[str, Any]:
    verdict = _verdict(content, name)
    level = verdict.get("level")
    best = verdict.get("best_attack")
    heads = content.config.get("heads") or {}  # trained on plain features: nothing was learned from ciphertexts
    return {
        "name": name,
        "level": level if level in LEVELS else UNAUDITED,
        "sentence": verdict.get("sentence")
        or "Nobody attacked it here. What it shows is unknown, and its accuracy says nothing about that.",
        "result": content.metrics.get(name),
        "best_attack": best,
        "best_ssim": verdict.get("best_ssim"),
        "knowledge": _attack_results(content, name).get(best, {}).get("knowledge") if best else None,
        "learned": None if name in heads else _learned(content, name),
        "private": name in heads,
        "undecided": content.metrics.get(name, {}).get("control") == CANNOT_TELL,
        "blind": _attack_results(content, name).get(BLIND, {}).get("ssim"),
    }


def _learned(content: ReportContent, name: str) -> bool | None:
    """Tell whether a run's accuracy, or by the permutation test its predictions, are above chance; None where that is not known."""
    if control := content.metrics.get(name, {}).get("control"):
        return {AT_CHANCE: False, CANNOT_TELL: None}.get(control, True)
    low = content.metrics.get(name, {}).get("accuracy_low")
    chance = content.metrics.get("baselines", {}).get("chance", {}).get("accuracy")
    return None if low is None or chance is None else low > chance


def _summary(cards: list[dict[str, Any]]) -> list[str]:
    """Answer the question of the title."""

    def named(**wanted: Any) -> list[str]:
        return [card["name"] for card in cards if all(card[key] == value for key, value in wanted.items())]

    said = [
        (named(learned=True), "A network learned from {}."),
        (named(learned=False), "It learned nothing from {}: it stays at chance there."),
        (named(undecided=True), "Whether it learned from {} cannot be told from so few patients."),
        (named(private=True), "Test images of {} were classified on ciphertexts, by a head that was trained on plain features."),
        (named(level="broken"), "Attackers rebuilt the images of {}."),
        (named(level="leaky"), "Attackers got something out of {}."),
        (named(level="unbroken"), "No attack here got anything out of {}, which is no proof that none can."),
        (named(level=UNAUDITED), "Nobody attacked {} here."),
    ]
    return [text.format(_listed(found)) for found, text in said if found]


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _accuracy(content: ReportContent) -> list[dict[str, Any]]:
    comparisons = content.details.get("comparisons", {})
    table = []
    for run in _runs(content):
        verdict = _verdict(content, _branch_of(content, run))
        shown = "the images themselves" if run == _reference(content) else "not attacked"
        if verdict:
            shown = (
                f"SSIM {fixed(verdict['best_ssim'])} ({words(verdict['best_attack'])})"
                if verdict.get("best_attack")
                else "no image rebuilt"
            )
        row = {"run": run, "result": content.metrics[run], "comparison": comparisons.get(run), "baseline": False}
        table.append(row | {"shown": shown, "level": verdict.get("level")})
    for name, title in BASELINES.items():
        if found := content.metrics.get("baselines", {}).get(name):
            table.append({"run": title, "result": found, "comparison": None, "baseline": True, "shown": "", "level": None})
    return table


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


def _attacks(content: ReportContent) -> dict[str, Any]:
    """Return the table attack x protection."""
    names = list(content.audit)
    attacks = list(dict.fromkeys(attack for name in names for attack in _attack_results(content, name)))
    table = []
    for attack in attacks:
        found = [_attack_results(content, name).get(attack) for name in names]
        if attack == CIPHER_METRICS and not any(key in (result or {}) for result in found for key in HEADLINES):
            continue
        said = next((result for result in found if result and result.get("knowledge")), {})
        table.append({"attack": attack, "knowledge": said.get("knowledge", ""), "source": said.get("source", ""), "cells": found})
    return {"protections": names, "rows": table, "missing": [name for name in protections_of(content) if name not in names]}


def _further(content: ReportContent) -> list[dict[str, Any]]:
    """Return all figures of the attacks that no table shows."""
    found = []
    for name in content.audit:
        for attack, metrics in _attack_results(content, name).items():
            rest = {words(key): plain(value) for key, value in metrics.items() if key not in SHOWN and not isinstance(value, list)}
            curve = metrics.get("curve", []) if not _is_view_curve(metrics.get("curve")) else []
            tables = {words(key): value for key, value in metrics.items() if key not in SHOWN and _is_table(value)}
            tables |= {"curve": curve} if _is_table(curve) else {}
            if attack != CIPHER_METRICS and (set(rest) - {"seconds"} or tables):
                found.append({"title": f"{words(attack)} on {name}", "values": rest, "tables": {k: _table(v) for k, v in tables.items()}})
    return found


def _is_table(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _is_view_curve(curve: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return _is_table(curve) and all("ssim" in entry and ("stride" in entry or "noise" in entry) for entry in curve)


def _table(entries: list[Mapping[str, Any]]) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    return {"columns": keys, "rows": [[entry.get(key) for key in keys] for entry in entries]}


def _by_count(content: ReportContent) -> list[dict[str, Any]]:
    """Return a table for each attack that was tried with several numbers of images."""
    tables: dict[str, dict[str, Any]] = {}
    for name in content.audit:
        for attack, metrics in _attack_results(content, name).items():
            if metrics.get("by_count"):
                tables.setdefault(attack, {})[name] = metrics["by_count"]
    result = []
    for attack, found in tables.items():
        counts = sorted(
            {key for by_count in found.values() for key in by_count},
            key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0),
        )
        knowledge = next(_attack_results(content, name)[attack].get("knowledge", "") for name in found)
        result.append({"attack": attack, "knowledge": knowledge, "counts": counts, "rows": found})
    return result


def _curves(content: ReportContent) -> list[dict[str, Any]]:
    """Return what revealed views give back over stride and noise."""
    curves = []
    for name in content.audit:
        for attack, metrics in _attack_results(content, name).items():
            curve = metrics.get("curve")
            if not _is_view_curve(curve):
                continue
            figure = content.figures.get("inversion") or _png(plot_inversion(curve))
            said = {"protection": name, "attack": attack, "knowledge": metrics.get("knowledge", ""), "figure": data_uri(figure)}
            union = metrics.get("union")
            curves.append(said | {"table": _table(curve), "union": _table(union) if _is_table(union) else None})
    return curves


def _frontier(content: ReportContent, names: list[str]) -> dict[str, Any]:
    points, left_out = frontier_points(content)
    chance = content.metrics.get("baselines", {}).get("chance", {}).get("accuracy")
    figure = content.figures.get("frontier") or (_png(plot_frontier(points, chance=chance)) if points else None)
    drawn = "; ".join(f"{p.label}: accuracy {percent(p.accuracy)} {interval(p.low, p.high)}, SSIM {fixed(p.ssim)}" for p in points)
    return {"figure": data_uri(figure) if figure else "", "text": drawn, "left_out": _listed(left_out) if left_out else ""}


def frontier_points(content: ReportContent) -> tuple[list[FrontierPoint], list[str]]:
    """Return one point a run, the reference at SSIM 1, and the runs that no attacker's SSIM is known of."""
    points, left_out = [], []
    for run in _runs(content):
        branch = _branch_of(content, run)
        verdict = _verdict(content, branch)
        ssim = 1.0 if run == _reference(content) else verdict.get("best_ssim")
        result = content.metrics[run]
        if ssim is None:
            left_out.append(run)
        else:
            accuracy, low, high = (result[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
            points.append(FrontierPoint(run, accuracy, low, high, ssim, branch))
    return points, left_out


def _cost(content: ReportContent) -> dict[str, Any]:
    rows = [{"protection": name, "step": step, **found} for name, steps in content.cost.items() for step, found in _ordered(steps)]
    engines = sorted({row["engine"] for row in rows if "engine" in row})
    return {"rows": rows, "num_images": content.data.get("num_images"), "engines": engines}


def _ordered(steps: Mapping[str, Any]) -> list[tuple[str, Any]]:
    order = ("encrypt", "stem", "reveal")
    return sorted(steps.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _cipher(content: ReportContent) -> dict[str, Any]:
    """Return cipher metrics as rows, protections as columns, and the ideals that the audit gives."""
    found = {name: _attack_results(content, name).get(CIPHER_METRICS) for name in content.audit}
    applied = {name: metrics for name, metrics in found.items() if metrics and "does_not_apply" not in metrics}
    rows = []
    for key in dict.fromkeys(key for metrics in applied.values() for key in metrics):
        if key not in CIPHER_REMARKS:
            ideals = [_ideal(key, metrics.get("ideal", {})) for metrics in applied.values()]
            # of images of another size another ideal: then each value stands with its own
            same = len(set(ideals)) == 1
            values = [(metrics.get(key), "" if same else ideal) for metrics, ideal in zip(applied.values(), ideals, strict=True)]
            rows.append({"name": key, "values": values, "ideal": ideals[0] if same else "in brackets"})
    quiet = {name: metrics["does_not_apply"] for name, metrics in found.items() if metrics and "does_not_apply" in metrics}
    notes = [metrics["note"] for metrics in applied.values() if metrics.get("note")]
    return {"protections": list(applied), "rows": rows, "remark": notes[0] if notes else "", "quiet": quiet}


def _ideal(name: str, ideals: Mapping[str, Any]) -> str:
    """Return the ideal of correlation_h from that of correlation."""
    return plain(ideals[max(known, key=len)]) if (known := [key for key in ideals if name.startswith(key)]) else ""


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def _builtin(config: Any) -> Any:
    """Return plain dicts and lists, which is what YAML's safe writer takes."""
    if isinstance(config, Mapping):
        return {str(key): _builtin(value) for key, value in config.items()}
    return [_builtin(value) for value in config] if isinstance(config, (list, tuple)) else config
