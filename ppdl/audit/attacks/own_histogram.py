"""Tell images by their histograms, which stay whatever moves pixels within an image."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import chdtrc, ndtri

from ppdl.audit.attacks.linkage import Linkage
from ppdl.audit.examination import base
from ppdl.audit.examination.chance import FALSE_ALARM, POWER
from ppdl.errors import AttackDoesNotApply

_LEAST_EXPECTED = 5  # in a bin of an image, as usual in a test by chi squared
_QUANTILES = np.linspace(0.01, 0.99, 64)


@dataclass(frozen=True)
class OwnHistogram(base.Attack):
    """Test whether images differ in how often each value occurs, and look patients up by it.

    Values of a cipher follow the same law in all images, whichever it is; that they do is tested by chi squared. An earlier X-ray is looked
    up by its quantiles, without their mean and spread, so that exposure does not matter.

    Source: K. Pearson, Phil. Mag. 50, 1900, for the test; M. Swain and D. Ballard, Color indexing, Int. J. Computer Vision 7(1), 1991, for
    the look-up by histograms; S. Li et al. 2008: permutation keeps them.
    """

    name: ClassVar[str] = "own_histogram"
    needs: ClassVar[frozenset[str]] = frozenset({base.SYMBOLS})
    wants: ClassVar[frozenset[str]] = frozenset({base.QUERIES})
    knowledge: ClassVar[str] = "the ciphertexts, and earlier X-rays of persons who are looked up"
    source: ClassVar[str] = "K. Pearson 1900; M. Swain and D. Ballard, IJCV 7(1), 1991"

    def run(self, target: base.Target, rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray | None]:
        """Return what was found, and for each query the rows, most similar first: (num_queries, num_images) int, or None."""
        if target.num_images < 2:
            raise AttackDoesNotApply("there is one image only, which differs from no other")
        values = np.asarray(target.symbols.array).reshape(target.num_images, -1)
        counts = np.stack([np.bincount(row, minlength=target.symbols.num_symbols) for row in values])
        counts = np.add.reduceat(counts, _bins(counts.mean(0)), axis=1)
        expected = counts.mean(0) * (counts.sum(1, keepdims=True) / counts.sum(1).mean())
        statistic, freedom = float(((counts - expected) ** 2 / expected).sum()), (len(counts) - 1) * (counts.shape[1] - 1)
        p = float(chdtrc(freedom, statistic)) if freedom else 1.0
        metrics: dict[str, Any] = {"p_value": p, "difference": max(statistic - freedom, 0.0) ** 0.5 / counts.sum() ** 0.5, "leak": None}
        seen_from = ((ndtri(POWER) - ndtri(FALSE_ALARM)) * (2 * freedom) ** 0.5 / counts.sum()) ** 0.5
        metrics["unseen"] = f"histograms that differ by {seen_from:.1%} (root mean square)"
        if p > FALSE_ALARM:
            return metrics, None
        metrics["leak"] = f"each image keeps a histogram of its own (they differ by {metrics['difference']:.1%}, root mean square)"
        return metrics, None if target.queries is None else np.argsort(_distances(target.queries, values), axis=1, kind="stable")

    def score(self, guess: tuple[dict[str, Any], np.ndarray | None], truth: base.Truth) -> base.Finding:
        """Add the share of patients that are found again, linked_top1 with its chance."""
        metrics, ranking = guess
        if ranking is None:
            return base.Finding(metrics)
        found = Linkage().score(ranking, truth).metrics
        linked = {f"linked_{key}": found[key] for key in ("top1", "top5", "chance_top1", "chance_top5", "num_queries")}
        said = f"{metrics['leak']}, and by it {found['top1']:.0%} of the patients are found again, by chance {found['chance_top1']:.1%}"
        return base.Finding(metrics | linked | {"leak": said})


def _bins(expected: np.ndarray) -> list[int]:
    """Return where bins of neighbouring values start, each of which expects `_LEAST_EXPECTED` in an image or is the only one."""
    starts, total = [0], 0.0
    for value, count in enumerate(expected.tolist()):
        if total >= _LEAST_EXPECTED and expected[value:].sum() >= _LEAST_EXPECTED:
            starts.append(value)
            total = 0.0
        total += count
    return starts


def _distances(queries: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return how far the shapes of histograms are apart: (num_queries, num_images), of any pixels."""
    shapes = [np.quantile(x.reshape(len(x), -1).astype(np.float64), _QUANTILES, axis=1).T for x in (queries, values)]
    shapes = [(x - x.mean(1, keepdims=True)) / np.maximum(x.std(1, keepdims=True), 1e-9) for x in shapes]
    return np.abs(shapes[0][:, None] - shapes[1][None]).sum(2)
