"""Is a protected run worse than the plain one, and does a run beat chance at all?"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar

from ppdl.errors import ConfigError
from ppdl.evaluation.predictions.intervals import CONFIDENCE, Support, difference_ends, group_codes, group_sums
from ppdl.evaluation.predictions.predictions import Predictions, check_same_images

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
        only_reference_right, only_protected_right: Images on which exactly one of the runs is right.
        mcnemar_p: Exact two-sided p-value of "both are right equally often".
        mcnemar_mid_p: The same as a mid-p-value, which is less conservative.
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
    sentence: str

    @property
    def verdict(self) -> str:
        """Say where the whole interval lies: above -margin, below it, or across; and if across, whether it could have been above."""
        return _verdict((self.low, self.high), self.least_loss, self.margin)


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

    McNemar's test takes images as independent. With several images a group its p-values are too small: trust the interval.

    Args:
        reference, protected: Predictions of the same images in the same order.
        margin: In (0, 1), as a share: 0.02 is two points of accuracy. Fix it before looking.
        names: What the sentence calls the two runs.

    Raises:
        DataError: The predictions are of other images, another order, other labels, groups or classes, or of one group.
        ConfigError: `margin` is out of range.

    Source: Fagerland, Lydersen and Laake, BMC Med. Res. Methodol. 13 (2013) 91, for the mid-p-value; Piaggio et al. (CONSORT
        extension), JAMA 308 (2012) 2594, for the reading of the interval.
    """
    if not 0 < margin < 1:
        raise ConfigError(f"evaluation.margin is a share of images, such as 0.02 for two points: it must be in (0, 1), got {margin}")
    check_same_images(reference, protected, names=names)
    right = np.stack([run.predicted == run.labels for run in (reference, protected)], axis=1)
    difference = float(right[:, 1].mean() - right[:, 0].mean())
    codes, num_groups = group_codes(reference.groups)
    won, lost = right[:, 1] & ~right[:, 0], right[:, 0] & ~right[:, 1]
    sums = group_sums(np.stack([won, lost, np.ones(len(won))], axis=1).astype(np.float64), codes, num_groups)
    low, high = map(float, difference_ends(*sums.T))
    least_loss = float(Support.of(sums[:, 2]).least_width)
    only_reference, only_protected = int(lost.sum()), int(won.sum())
    exact_p, mid_p = mcnemar_test(only_reference, only_protected)
    return Comparison(
        difference=difference,
        low=low,
        high=high,
        margin=margin,
        num_groups=num_groups,
        least_loss=least_loss,
        only_reference_right=only_reference,
        only_protected_right=only_protected,
        mcnemar_p=exact_p,
        mcnemar_mid_p=mid_p,
        sentence=_sentence(right, (low, high), num_groups, least_loss, margin, mid_p, names),
    )


def mcnemar_test(only_first_right: int, only_second_right: int) -> tuple[float, float]:
    """Return the exact and the mid-p two-sided p-value of McNemar's test, 1 where the runs never disagree."""
    discordant = only_first_right + only_second_right
    if discordant == 0:
        return 1.0, 1.0
    exact = float(mcnemar([[0, only_first_right], [only_second_right, 0]], exact=True).pvalue)
    observed = float(binom.pmf(only_first_right, discordant, 0.5))
    if only_first_right == only_second_right:  # the exact p is capped at 1, so the tails share this one term
        return exact, 1 - observed / 2
    return exact, exact - observed


def points(share: float) -> str:
    """Write a difference of shares in points with one decimal and a sign, except for what rounds to 0.0."""
    rounded = round(100 * share, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"


def _verdict(ends: tuple[float, float], least_loss: float, margin: float) -> str:
    low, high = ends
    if low > -margin:
        return NON_INFERIOR
    if high < -margin:
        return INFERIOR
    return TOO_FEW if least_loss >= margin else INCONCLUSIVE


def _sentence(
    right: np.ndarray, ends: tuple[float, float], num_groups: int, least_loss: float, margin: float, mid_p: float, names: tuple[str, str]
) -> str:
    reference, protected = right.mean(axis=0)
    needed = int(np.ceil(np.log((1 - CONFIDENCE) / 2) / np.log1p(-margin)))
    meaning = {
        NON_INFERIOR: f"it loses less than the margin of {100 * margin:g} points: non-inferior",
        INFERIOR: f"it loses more than the margin of {100 * margin:g} points: inferior",
        INCONCLUSIVE: f"the interval crosses the margin of {-100 * margin:g} points: these images do not decide",
        TOO_FEW: f"{num_groups:,} groups are too few for a margin of {100 * margin:g} points: of a run that is right on the very same "
        f"images they leave a loss of {100 * least_loss:.1f} points open; it takes {needed:,} groups of equal size",
    }[_verdict(ends, least_loss, margin)]
    lost, won = (right[:, 0] & ~right[:, 1]).sum(), (right[:, 1] & ~right[:, 0]).sum()
    return (
        f"{names[1]} is right on {100 * protected:.1f} % of {len(right):,} test images, {names[0]} on {100 * reference:.1f} %: "
        f"a difference of {points(protected - reference)} points, 95 % interval "
        f"{points(ends[0])} to {points(ends[1])}; {meaning}. "
        f"Images that only {names[0]} gets right: {lost:,}; that only {names[1]} gets right: {won:,} (McNemar, mid-p = {mid_p:.2g})."
    )
