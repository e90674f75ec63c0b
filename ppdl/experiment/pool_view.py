"""What an attacker makes of a head that several hospitals trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ppdl.audit.pool.films import Films
from ppdl.audit.pool.published import PublishedHead
from ppdl.pooling.ridge import fit_ridge, solve
from ppdl.pooling.sums import sums_of
from ppdl.private_head.head import LARGEST_FEATURE, QuantisedHead, spread_floor


def published_head(
    head: QuantisedHead, candidates: Films, *, num_films: int, strengths: Sequence[float], feature_bits: int
) -> PublishedHead:
    """Return what an attacker with candidates makes of a pooled head. The strength, which is not published, it guesses as the key holder
    chose it: by generalised cross-validation, on the candidates.

    Args:
        num_films: of all hospitals, as they declared them. strengths, feature_bits: in the terms of the run.
    """
    step = (2**feature_bits - 1) / LARGEST_FEATURE  # of a feature of the head, in those of the films
    total = sums_of(candidates.features, candidates.labels, num_classes=head.num_classes, feature_bits=feature_bits)
    spread, strength = candidates.features.std(axis=0), solve(total, strengths)[-1]
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

    def head(self, members: Films) -> QuantisedHead:
        """Return the integer head. Raises: DataError when a class has no film."""
        total = sums_of(members.features, members.labels, num_classes=len(self.class_names), feature_bits=self.feature_bits)
        return fit_ridge(total, self.strengths, class_names=self.class_names, backbone={})[0]

    def __call__(self, members: Films) -> Callable[[Films], PublishedHead]:
        head = self.head(members)
        return partial(published_head, head, num_films=len(members), strengths=self.strengths, feature_bits=self.feature_bits)
