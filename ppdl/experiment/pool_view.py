"""What attackers of a head that several hospitals trained have to do with, and what they make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ppdl.audit.examination.base import Target, Truth, scored_rows
from ppdl.audit.pool.films import Films
from ppdl.audit.pool.parties import Pooled
from ppdl.audit.pool.pictures import Pictures
from ppdl.audit.pool.published import PublishedHead
from ppdl.datasets.prepared.reduced import Reduced
from ppdl.errors import DataError
from ppdl.experiment.training.head_run import HeadRun
from ppdl.pooling.board import Board
from ppdl.pooling.ridge import fit_ridge
from ppdl.pooling.sharing import Shares
from ppdl.pooling.subjects.head import HeadSums
from ppdl.pooling.sums import integer_features, sums_of
from ppdl.private_head.head import BACKBONE_FILE, LARGEST_FEATURE, QuantisedHead, spread_floor
from ppdl.training.networks.features import load_extractor


def published_head(head: QuantisedHead, candidates: Films, *, num_films: int, strength: float, feature_bits: int) -> PublishedHead:
    """Return what an attacker with candidates makes of a pooled head.

    Args:
        num_films: of all hospitals, as they declared them.
        strength: that the key holder chose. It is not published, but is one of a few in the terms, and an attacker can try each.
        feature_bits: in the terms of the run.
    """
    step = (2**feature_bits - 1) / LARGEST_FEATURE  # of a feature of the head, in those of the films
    spread = candidates.features.std(axis=0)
    return PublishedHead(
        weights=head.weights * (head.logit_scale / step),
        bias=head.bias * head.logit_scale,
        step=head.logit_scale / step,
        bias_step=head.logit_scale,
        penalty=strength * num_films * np.maximum(spread, spread_floor(spread)) ** 2,
        num_films=num_films,
    )


@dataclass(frozen=True)
class PooledHeads:
    """Train the head that a key holder gets of the sums over some films; called with them, it returns what an attacker makes of that head.

    Attributes:
        strengths, feature_bits, class_names: in the terms of the run.
    """

    strengths: Sequence[float]
    feature_bits: int
    class_names: Sequence[str]

    def fit(self, members: Films) -> tuple[QuantisedHead, float]:
        """Return the integer head and its strength. Raises: DataError when a class has no film."""
        total = sums_of(members.features, members.labels, num_classes=len(self.class_names), feature_bits=self.feature_bits)
        return fit_ridge(total, self.strengths, class_names=self.class_names, backbone={})

    def __call__(self, members: Films) -> Callable[[Films], PublishedHead]:
        head, strength = self.fit(members)
        return partial(published_head, head, num_films=len(members), strength=strength, feature_bits=self.feature_bits)


def examined(run: HeadRun, target: Target, truth: Truth) -> Pooled:
    """Return what an examiner knows of the hospitals' run of a head.

    Args:
        target, truth: of some test images, evenly spaced.

    Raises:
        DataError: the head is not that of the hospitals' films.
    """
    inputs, prepared, path = run.experiment.workspace.inputs, run.experiment.prepared, f"data/hospitals/{run.branch}.json"
    board, shares = Board(inputs / f"data/pool/{run.branch}"), Shares.read(inputs / path)
    subject, contributors, head = HeadSums.of(board.read_terms().subject), board.read_tally().contributors, run.open()
    extract = load_extractor(run.trained / BACKBONE_FILE, sha256=head.backbone["sha256"])
    images, index = Reduced(prepared.images, target.height), prepared.index

    def films(rows: np.ndarray) -> Films:
        features = integer_features(extract(images, rows), subject.feature_bits)
        return Films(features, index["label"].to_numpy()[rows], index["group"].to_numpy()[rows])

    hospitals = {hospital: films(np.array(rows)) for hospital, rows in shares.rows.items() if hospital in contributors}
    others = prepared.rows("test")
    public = integer_features(extract(target.prior), subject.feature_bits)
    pictures = Pictures(public, target.prior, scored_rows(len(others), len(truth.images)), np.asarray(truth.images))
    heads = PooledHeads(subject.strengths, subject.feature_bits, prepared.class_names)
    pooled = Pooled(hospitals, films(others), len(prepared.class_names), heads, pictures)
    if not np.array_equal(heads.fit(pooled.members)[0].weights, head.weights):
        raise DataError(f"{run.trained} is not the head of the films of {path}: run `dvc repro`")
    return pooled
