"""Is a protected run worse than the plain one, and does a run beat chance at all?"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom, binomtest

from ppdl.errors import DataError
from ppdl.evaluation.predictions.intervals import CONFIDENCE, Support, difference_ends, group_codes, group_sums
from ppdl.evaluation.predictions.predictions import Predictions, check_same_images
from ppdl.evaluation.predictions.seeds import Seeded, Spread, folds_of_groups, seeds_of

NON_INFERIOR, INFERIOR, INCONCLUSIVE, TOO_FEW = "non-inferior", "inferior", "inconclusive", "too few"


@dataclass(frozen=True)
class Comparison:
    """Hold what `compare` found. Differences are shares of the test images, not points.

    Attributes:
        difference: Accuracy of the protected run minus that of the reference.
        low, high: Its 95 % interval.
        margin: Loss of accuracy that is still acceptable.
        num_groups: Groups of the test images.
        least_loss: Share that the interval would leave to be lost if the runs were right on the very same images.
        only_reference_right, only_protected_right: Images on which exactly one of the runs is right; of several seeds with the first.
        mcnemar_p: Exact two-sided p-value of "both are right equally often"; of several seeds with the first.
        mcnemar_mid_p: The same as a mid-p-value, which is less conservative.
        num_seeds: Training seeds that the interval stands on; with 1 it holds for these networks alone.
        seed_share: Part of the difference's variance that is the seeds', not the films'; None with a single seed.
        sentence: The finding in plain words.
    """

    difference: float
    low: float
    high: float
    margin: float
    num_groups: int
    least_loss: float
    only_reference_right: int
    only_protected_right: int
    mcnemar_p: float
    mcnemar_mid_p: float
    num_seeds: int
    seed_share: float | None
    sentence: str

    @property
    def verdict(self) -> str:
        """Say where the whole interval lies: above -margin, below it, or across; and if across, whether it could have been above."""
        if self.low > -self.margin:
            return NON_INFERIOR
        if self.high < -self.margin:
            return INFERIOR
        return TOO_FEW if self.least_loss >= self.margin else INCONCLUSIVE


def compare(
    reference: Predictions,
    protected: Predictions,
    *,
    margin: float,
    names: tuple[str, str] = ("plain", "protected"),
) -> Comparison:
    """Compare two runs image by image.

    The interval is `intervals.difference_ends`: a group brings along both runs' answers, and where none was lost the bound is that of
    none of so many groups. The rule: the protected run is non-inferior if the lower end of the two-sided 95 % interval lies above -margin
    (a one-sided test at 2.5 %); inferior if the upper end lies below -margin; otherwise the test set does not decide. Where it could not
    have found even two equal runs non-inferior, the verdict is that there are too few of them: a margin of 2 points needs 183.

    Of several training seeds the difference is the mean over seeds, of the same number for both runs, and the interval holds for other
    seeds as well (`predictions.seeds`). A run of a single one beside a run of several is taken as a training that draws nothing.

    McNemar's test takes images as independent. With several images a group its p-values are too small: trust the interval.

    Args:
        reference, protected: Predictions of the same images in the same order.
        margin: In (0, 1), as a share: 0.02 is two points of accuracy. Fix it before looking.
        names: What the sentence calls the two runs.

    Raises:
        DataError: The predictions are of other images, another order, other labels, groups or classes, of one group, or of other numbers
            of seeds or other folds.

    Source: Fagerland, Lydersen and Laake, BMC Med. Res. Methodol. 13 (2013) 91, for the mid-p-value; Piaggio et al. (CONSORT
        extension), JAMA 308 (2012) 2594, for the reading of the interval.
    """
    check_same_images(reference, protected, names=names)
    right, folds = _right(reference, protected, names)  # (num_seeds, num_images, 2)
    difference = float(right[..., 1].mean() - right[..., 0].mean())
    codes, num_groups = group_codes(reference.groups)
    won, lost = right[..., 1] & ~right[..., 0], right[..., 0] & ~right[..., 1]
    sizes = np.bincount(codes, minlength=num_groups).astype(np.float64)
    wins, losses = (group_sums(of.T.astype(np.float64), codes, num_groups).T for of in (won, lost))  # (num_seeds, num_groups)
    ends = difference_ends(wins.mean(axis=0), losses.mean(axis=0), sizes)
    spread = Spread.of(without_groups(wins - losses, sizes), folds)
    low, high = map(float, spread.widen(difference, *ends, least=-1.0))
    only_reference, only_protected = int(lost[0].sum()), int(won[0].sum())
    exact_p, mid_p = mcnemar_test(only_reference, only_protected)
    found = Comparison(
        difference=difference,
        low=low,
        high=high,
        margin=margin,
        num_groups=num_groups,
        least_loss=float(Support.of(sizes).least_width),
        only_reference_right=only_reference,
        only_protected_right=only_protected,
        mcnemar_p=exact_p,
        mcnemar_mid_p=mid_p,
        num_seeds=len(right),
        seed_share=float(spread.seed_share) if len(right) > 1 else None,
        sentence="",
    )
    return replace(found, sentence=_sentence(found, right, names))


def without_groups(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return means over images, of all and without each group, (..., 1 + num_groups), from sums over groups of `sizes` images."""
    total = sums.sum(axis=-1, keepdims=True)
    return np.concatenate(
        [total / sizes.sum(axis=-1, keepdims=True), (total - sums) / (sizes.sum(axis=-1, keepdims=True) - sizes)], axis=-1
    )


def _right(reference: Predictions, protected: Predictions, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Return which images both runs are right on, by seed, (num_seeds, num_images, 2), and the fold of each group."""
    runs = [seeds_of(run) for run in (reference, protected)]
    num_seeds = max(map(len, runs))
    if any(len(run) not in (1, num_seeds) for run in runs):
        raise DataError(f"runs {names[0]!r} and {names[1]!r} must have as many seeds as each other, got {len(runs[0])} and {len(runs[1])}")
    seeded = [run for run in (reference, protected) if isinstance(run, Seeded)]
    folds = [folds_of_groups(run) for run in seeded] or [folds_of_groups(reference)]
    if not all(np.array_equal(folds[0], other) for other in folds):
        raise DataError(f"runs {names[0]!r} and {names[1]!r} were tested in different folds: cross-validate both on one split")
    both = [np.stack([one.predicted == one.labels for one in run]) for run in runs]
    return np.stack([np.broadcast_to(right, (num_seeds, right.shape[1])) for right in both], axis=-1), folds[0]


def mcnemar_test(only_first_right: int, only_second_right: int) -> tuple[float, float]:
    """Return the exact and the mid-p two-sided p-value of McNemar's test, 1 where the runs never disagree."""
    discordant = only_first_right + only_second_right
    if discordant == 0:
        return 1.0, 1.0
    exact = float(binomtest(only_first_right, discordant).pvalue)
    observed = float(binom.pmf(only_first_right, discordant, 0.5))
    if only_first_right == only_second_right:  # the exact p is capped at 1, so the tails share this one term
        return exact, 1 - observed / 2
    return exact, exact - observed


def points(share: float) -> str:
    """Write a difference of shares in points with one decimal and a sign, except for what rounds to 0.0."""
    rounded = round(100 * share, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"


def _sentence(found: Comparison, right: np.ndarray, names: tuple[str, str]) -> str:
    reference, protected = right.mean(axis=(0, 1))
    margin, num_groups = 100 * found.margin, f"{found.num_groups:,}"
    needed = int(np.ceil(np.log((1 - CONFIDENCE) / 2) / np.log1p(-found.margin)))
    meaning = {
        NON_INFERIOR: f"it loses less than the margin of {margin:g} points: non-inferior",
        INFERIOR: f"it loses more than the margin of {margin:g} points: inferior",
        INCONCLUSIVE: f"the interval crosses the margin of {-margin:g} points: these images do not decide",
        TOO_FEW: f"{num_groups} groups are too few for a margin of {margin:g} points: of a run that is right on the very same "
        f"images they leave a loss of {100 * found.least_loss:.1f} points open; it takes {needed:,} groups of equal size",
    }[found.verdict]
    asked = f"{right.shape[1]:,} test images" + (f" and {found.num_seeds} training seeds" if found.num_seeds > 1 else "")
    said = (
        f"{names[1]} is right on {100 * protected:.1f} % of {asked}, {names[0]} on {100 * reference:.1f} %: "
        f"a difference of {points(found.difference)} points, 95 % interval {points(found.low)} to {points(found.high)}; {meaning}. "
    )
    if found.seed_share is not None:
        return f"{said}Of the difference's variance {100 * found.seed_share:.0f} % are the seeds', the rest the films'."
    return (
        f"{said}Images that only {names[0]} gets right: {found.only_reference_right:,}; that only {names[1]} gets right: "
        f"{found.only_protected_right:,} (McNemar, mid-p = {found.mcnemar_mid_p:.2g})."
    )
