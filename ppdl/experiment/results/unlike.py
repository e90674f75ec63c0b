"""How well each network tells images that are no films of the set: false alarms on test images, and AUROC of what is wrong with others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from ppdl.datasets.phantoms.wrong import KINDS
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.evaluation.predictions.likeness import Likeness
from ppdl.experiment.experiment import Experiment
from ppdl.experiment.training.network_run import NetworkRun
from ppdl.experiment.training.run import PLAIN
from ppdl.protections.view import View, plain_view


def unlike_results(
    experiment: Experiment, networks: Mapping[str, NetworkRun], asked: Mapping[Experiment, Mapping[str, Any]]
) -> dict[str, dict[str, float | None]]:
    """Return for each network that has a threshold, by run; `asked`: by set of another hospital, the runs by name, see `Run.at`.

        unlike_false_alarms: share of the own test images that it calls unlike the training set.
        unlike_SET, unlike_auroc_SET: the same of a set of another hospital, and how well the distance tells it from the own test images.
        unlike_auroc_KIND: the same of test images that were inverted or turned, of empty plates and noise (`ppdl.datasets.phantoms.wrong`);
            of plain alone, for these would have to be encrypted first.

    Cost: a prediction of test images, of other hospitals' films and, for plain, of as many images of each kind.
    """
    found = {}
    for name, run in networks.items():
        likeness = Likeness.load(run.trained)
        if likeness is None or not likeness.has_threshold:
            continue
        rows = experiment.prepared.rows("test")
        own = _distances(run, likeness, run.source.view, rows)
        row: dict[str, float | None] = {"unlike_false_alarms": float((own > likeness.threshold[0]).mean())}
        for there, runs in asked.items():
            other = _distances(run, likeness, runs[name].source.view, there.prepared.rows("test"))
            row |= {f"unlike_{there.external}": float((other > likeness.threshold[0]).mean())}
            row |= {f"unlike_auroc_{there.external}": auroc(own, other)}
        if run.branch == PLAIN:
            films, rng = Reduced(experiment.prepared.images, experiment.cfg.input_px)[rows], np.random.default_rng(experiment.cfg.seed)
            for kind, make in KINDS.items():
                wrong = plain_view(make(films, rng))
                row[f"unlike_auroc_{kind}"] = auroc(own, _distances(run, likeness, wrong, np.arange(len(films))))
        found[name] = row
    return found


def auroc(own: np.ndarray, wrong: np.ndarray) -> float:
    """Return how often a wrong image is farther away than an own one, ties counted half."""
    truth = np.repeat([0, 1], [len(own), len(wrong)])
    return float(roc_auc_score(truth, np.concatenate([own, wrong])))


def _distances(run: NetworkRun, likeness: Likeness, view: View, rows: np.ndarray) -> np.ndarray:
    from ppdl.training.networks.predict import predict_features

    _, features = predict_features(run.fused, view, rows, run.experiment.cfg.training.batch_size)
    return likeness.distances(np.asarray(features))
