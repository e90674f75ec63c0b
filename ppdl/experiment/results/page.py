"""From what the stages left on disk to the report for people: reports/audit.json and reports/report.html."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ppdl.audit.examination.quality import image_psnr, image_ssim
from ppdl.audit.examination.records import audit_metric
from ppdl.config import PROJECT, plain
from ppdl.errors import DISTRIBUTION
from ppdl.evaluation.report.content import ReportContent, read_content
from ppdl.evaluation.report.html import write_html
from ppdl.experiment.experiment import Experiment
from ppdl.tracking.runs.provenance import dvc_tags, git_tags

REPORT = "report.html"
PACKAGES = (DISTRIBUTION, "keras", "tensorflow", "numpy", "phe", "gmpy2", "llvmlite", "dvc", "mlflow", "hydra-core")
HASHED = ("data/raw", "data/prepared", "keys/public.json", "keys/inference.json")


def write_report(experiment: Experiment) -> ReportContent:
    """Write reports/audit.json and reports/report.html from the figures, the audits and the pictures of all branches.

    Raises:
        DataError: a file that another stage should have written is missing or damaged.
    """
    cfg, workspace = experiment.cfg, experiment.workspace
    reports, earlier = workspace.outputs / "reports", workspace.inputs / "reports"
    content = read_content(
        reports,
        earlier,
        [*cfg.protections, *cfg.heads],
        measures={"psnr": image_psnr, "ssim": image_ssim},
        config=_public(plain(cfg)),
        provenance=_provenance(experiment),
        figures=_figures(reports, earlier),
    )
    (reports / "audit.json").write_text(json.dumps(audit_metric(content.audit), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    write_html(reports / REPORT, content)
    return content


def _public(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration without the place of the private key."""
    return {key: node for key, node in tree.items() if key != "keygen"} | {"keygen": {"key_bits": tree["keygen"]["key_bits"]}}


def _provenance(experiment: Experiment) -> dict[str, Any]:
    git = git_tags(PROJECT)
    encrypted = [f"data/{node.train_on}/{name}" for name, node in experiment.cfg.protections.items()]
    hashes = {key.removeprefix("dvc.md5."): value for key, value in dvc_tags(PROJECT, [*HASHED, *encrypted]).items() if "md5" in key}
    return {
        "git_commit": git.get("git.commit"),
        "git_dirty": git.get("git.dirty") == "true",
        "hashes": hashes,
        "versions": {package: version(package) for package in PACKAGES},
    }


def _figures(reports: Path, earlier: Path) -> dict[str, bytes]:
    paths = [*(reports / "evaluation/figures").glob("*.png"), *(earlier / "data").glob("*.png")]
    return {path.stem: path.read_bytes() for path in sorted(paths)}
