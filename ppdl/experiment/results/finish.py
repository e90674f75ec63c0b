"""What the MLflow run of each training is told at the end, once: test results, where it looks, cost, what the attacks found, the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ppdl.audit.examination.records import headlines
from ppdl.audit.examination.verdict import BLIND
from ppdl.config import checkout
from ppdl.datasets.prepared.arrays import Prepared
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.evaluation.report.answer import Answer, glance, summary_metric
from ppdl.evaluation.report.content import ReportContent
from ppdl.evaluation.report.reports import write_json
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.results.insight import Insight, figures_of
from ppdl.experiment.results.page import REPORT
from ppdl.experiment.runs import runs_of
from ppdl.experiment.training.run import PLAIN, Run, dataset_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ppdl.evaluation.report.summary import Summary

SUMMARY = "summary.json"  # the one DVC metric: what is compared between experiments


@dataclass(frozen=True, eq=False)
class RunResults:
    """Hold what testing gave of one run: its metrics (numbers, and words that become tags), figures by name, and those that show images."""

    metrics: Mapping[str, Any]
    figures: Mapping[str, Figure]
    pictures: Mapping[str, Figure] = field(default_factory=dict)


def results_of_runs(
    prepared: Prepared,
    summary: Summary,
    predictions: Mapping[str, Predictions],
    insights: Mapping[str, Insight],
    unlike: Mapping[str, Mapping[str, float | None]],
) -> dict[str, RunResults]:
    """Return what testing gave of each run, by name; `unlike`: by run, see `ppdl.experiment.results.unlike`."""
    from ppdl.evaluation.figures.plots import plot_confusion, plot_reliability, plot_roc

    baselines = {f"{name}_accuracy": found["accuracy"] for name, found in summary.baselines.items()}
    found = {}
    for name, metrics in summary.runs.items():
        result, predicted = {name: metrics}, {name: predictions[name]}
        figures = {
            "confusion": plot_confusion({name: metrics["confusion"]}, summary.class_names),
            "roc": plot_roc(predicted, result),
            "reliability": plot_reliability(predicted, result),
        }
        looks = {name: insights[name]} if name in insights else {}
        more = (insights[name].metrics if looks else {}) | dict(unlike.get(name, {}))
        found[name] = RunResults(summary.metrics[name] | baselines | more, figures, figures_of(prepared, looks))
    return found


def finish(experiment: Experiment, content: ReportContent, tested: Mapping[str, RunResults]) -> None:
    """Write summary.json; add all that came out of each training to its MLflow run; the experiment's description becomes its table.

    The report and other pictures of the images stay out where tracking.log_report says so.
    """
    from ppdl.tracking import log_results, open_store
    from ppdl.tracking.runs.names import numbers_and_words
    from ppdl.tracking.runs.page import describe_experiment, run_address

    tracking = experiment.cfg.tracking
    store = open_store(checkout(), tracking.experiment)
    takes_pictures = store.takes_pictures(tracking.log_report)
    answers, links = [], dict[str, str]()
    for run in runs_of(experiment):
        audit = None if run.branch == PLAIN else content.audit[run.branch]
        found, results = _answer(run, content, audit), tested[run.name]
        numbers, words = numbers_and_words(results.metrics)
        leakage = _leakage(audit["verdict"]) if audit else run.verdict["sentence"]
        run_id = log_results(
            store,
            run.trained / "run.json",
            {
                "test": numbers,
                "cost": _cost(content.cost.get(run.branch, {})),
                "audit": headlines(audit) if audit else {"best_ssim": run.verdict["best_ssim"]},
                "answer": found.metrics,
                "external": {name: _shown(there[run.name]) for name, there in content.external.items()},
            },
            figures={**results.figures, **(results.pictures if takes_pictures else {})},
            artifacts={"audit": experiment.workspace.outputs / "reports" / REPORT} if takes_pictures else {},
            verdict=f"**Utility:** {_utility(content.metrics, run.name)}\n\n**Leakage, best attacker:** {leakage}",
            tags=words | found.tags,
        )
        answers.append(found)
        links[run.name] = run_address(store.experiment_id, run_id)
    write_json(experiment.workspace.outputs / "reports" / SUMMARY, summary_metric(answers))
    about = {"dataset": dataset_name(experiment.cfg), "origin": _origin(content)}
    describe_experiment(store, glance(answers, content.metrics["baselines"], links=links, **about))


def _answer(run: Run, content: ReportContent, audit: Mapping[str, Any] | None) -> Answer:
    from ppdl.tracking import read_record

    costs = content.cost[run.branch].values() if audit else ()
    return Answer(
        run=run.name,
        found=content.metrics[run.name],
        comparison=content.details["comparisons"].get(run.name),
        verdict=audit["verdict"] if audit else run.verdict,
        blind_ssim=_blind_ssim([audit] if audit else content.audit.values()),
        costs=None if audit and not costs else costs,
        bytes_per_pixel=read_record(run.trained / "run.json").metrics.get("fit/expansion_factor", None if audit else 1.0),
    )


def _blind_ssim(audits: Iterable[Mapping[str, Any]]) -> float | None:
    """Return what a blind guess reached in the first audit that has one."""
    found = (audit["attacks"].get(BLIND, {}).get("ssim") for audit in audits)
    return next((ssim for ssim in found if ssim is not None), None)


def _cost(steps: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return what the steps of a branch cost, such as encrypt_seconds, without counts, which are no cost."""
    found = {f"{step}_{key}": value for step, costs in steps.items() for key, value in costs.items()}
    return {name: value for name, value in found.items() if "_num_" not in name and not isinstance(value, str)}


def _shown(there: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run is told of its results at another hospital: accuracy, drop, calibration and the shortcut test, with their ends."""
    shown = ("accuracy", "macro_f1", "auroc", "ece_calibrated", "without_lungs_accuracy")
    return {name: value for name, value in there.items() if name.startswith(shown)}


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
