"""From what the stages left on disk to the report for people: reports/audit.json and reports/report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ppdl.audit.examination.quality import image_psnr, image_ssim
from ppdl.audit.examination.records import PICTURES_FILE, audit_metric, headlines
from ppdl.config import PROJECT, Workspace, checkout, plain
from ppdl.evaluation.report.answer import answer, glance
from ppdl.evaluation.report.content import ReportContent, read_content, read_pictures
from ppdl.evaluation.report.html import write_html
from ppdl.tracking.runs.provenance import dvc_tags, git_tags

REPORT = "report.html"
MEASURES = {"psnr": image_psnr, "ssim": image_ssim}
PACKAGES = ("ppdl", "keras", "tensorflow", "numpy", "phe", "gmpy2", "llvmlite", "dvc", "mlflow", "hydra-core")
HASHED = ("data/raw", "data/prepared", "keys/public.json", "keys/inference.json")


def write_report(cfg: DictConfig, workspace: Workspace) -> ReportContent:
    """Write reports/audit.json and reports/report.html from the figures, the audits and the pictures of all branches.

    Raises:
        DataError: a file that another stage should have written is missing or damaged.
    """
    reports, audit_dir = workspace.outputs / "reports", workspace.inputs / "reports/audit"
    branches = [*cfg.protections, *cfg.heads]
    content = read_content(reports, audit_dir, config=_public(cfg), provenance=_provenance(cfg), figures=_figures(reports))
    content = replace(
        content,
        audit={name: content.audit[name] for name in branches if name in content.audit},
        cost={name: content.cost[name] for name in branches if name in content.cost},
        pictures={name: read_pictures(audit_dir / name / PICTURES_FILE, MEASURES) for name in branches if name in content.audit},
    )
    (reports / "audit.json").write_text(json.dumps(audit_metric(content.audit), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    write_html(reports / REPORT, content)
    return content


def log_audits(cfg: DictConfig, workspace: Workspace, content: ReportContent) -> None:
    """Add what the attacks found, the answer at a glance, verdicts in words, and the report to the MLflow run of each training.

    The report stays out where tracking.log_report says so. The experiment's description becomes the table of these runs.
    """
    from ppdl.experiment.training.runs import PLAIN, runs_of
    from ppdl.tracking import log_test_results, open_store, read_record
    from ppdl.tracking.runs.page import describe_experiment, run_address

    store = open_store(checkout(), cfg.tracking.experiment)
    artifacts = [workspace.outputs / "reports" / REPORT] if store.takes_pictures(cfg.tracking.log_report) else []
    answers, links = [], dict[str, str]()
    for run in runs_of(cfg):
        run_json, audit = workspace.inputs / run.folder / "run.json", None if run.branch == PLAIN else content.audit[run.branch]
        leakage = _leakage(audit["verdict"]) if audit else "the trainer sees the images"
        log_test_results(
            store,
            run_json,
            headlines(audit) if audit else {"best_ssim": 1.0},
            artifacts=artifacts,
            section="audit",
            verdict=f"**Utility:** {_utility(content.metrics, run.name)}\n\n**Leakage, best attacker:** {leakage}",
        )
        found = answer(
            run.name,
            content.metrics[run.name],
            content.details["comparisons"].get(run.name),
            audit["verdict"] if audit else None,
            None if audit and run.branch not in content.cost else content.cost.get(run.branch, {}).values(),
            bytes_per_pixel=read_record(run_json).metrics.get("fit/expansion_factor", None if audit else 1.0),
        )
        run_id = log_test_results(store, run_json, found.metrics, section="answer", tags=found.tags)
        answers.append(found)
        links[run.name] = run_address(store.experiment_id, run_id)
    describe_experiment(store, glance(answers, content.metrics["baselines"], links=links, origin=_origin(content)))


def _leakage(verdict: Mapping[str, Any]) -> str:
    best = f"SSIM {verdict['best_ssim']:.2f} by {verdict['best_attack']}; " if verdict["best_ssim"] is not None else ""
    return f"{best}{verdict['level']}. {verdict['sentence']}"


def _origin(content: ReportContent) -> str:
    """Say on what the figures stand."""
    commit = content.provenance.get("git_commit")
    at = f" Evaluated at commit `{commit[:12]}`{' with changes' * bool(content.provenance.get('git_dirty'))}." if commit else ""
    return f"{content.details['method']}{at}"


def _utility(metrics: Mapping[str, Any], name: str) -> str:
    """Say an accuracy with its interval and its controls."""
    own, baselines = metrics[name], {key: f"{100 * found['accuracy']:.1f} %" for key, found in metrics["baselines"].items()}
    ends = f"[{100 * own['accuracy_low']:.1f}, {100 * own['accuracy_high']:.1f}]"
    return f"accuracy {100 * own['accuracy']:.1f} % {ends}; " + ", ".join(f"{key} {value}" for key, value in baselines.items())


def _public(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration without the place of the private key."""
    tree = plain(cfg)
    return {key: node for key, node in tree.items() if key != "keygen"} | {"keygen": {"key_bits": tree["keygen"]["key_bits"]}}


def _provenance(cfg: DictConfig) -> dict[str, Any]:
    git = git_tags(PROJECT)
    encrypted = [f"data/{node.train_on}/{name}" for name, node in cfg.protections.items()]
    hashes = {key.removeprefix("dvc.md5."): value for key, value in dvc_tags(PROJECT, [*HASHED, *encrypted]).items() if "md5" in key}
    return {
        "git_commit": git.get("git.commit"),
        "git_dirty": git.get("git.dirty") == "true",
        "command": "dvc repro",
        "hashes": hashes,
        "versions": {package: version(package) for package in PACKAGES},
    }


def _figures(reports: Path) -> dict[str, bytes]:
    paths = [*(reports / "evaluation/figures").glob("*.png"), *(reports / "data").glob("*.png")]
    return {path.stem: path.read_bytes() for path in sorted(paths)}
