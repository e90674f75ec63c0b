"""When a trial of a sweep is stopped because others are better."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ppdl.records.typecheck import Count


@dataclass(frozen=True)
class MedianStopping:
    """Stop a trial whose best loss so far is above the median of what finished trials had on average up to the same epoch.

    What a stopped trial had is never the best of its sweep: half of the finished ones had a lower loss on average, so a lower best one
    too. What it would have come to is not known.

    Args:
        least_epochs: Epochs that every trial gets: what a high learning rate has lost by then, its decay may still win back.
        least_trials: Finished trials without which none is stopped.

    Source: Golovin et al. 2017, Google Vizier (KDD), section 3.2.2, the median stopping rule.
    """

    least_epochs: Count
    least_trials: Count

    def stops(self, losses: Sequence[float], finished: Sequence[Sequence[float]]) -> bool:
        """Tell whether to stop.

        Args:
            losses: Of the trial's epochs so far.
            finished: The same of each trial that came to its end, all epochs.
        """
        if len(losses) < self.least_epochs or len(finished) < self.least_trials:
            return False
        return min(losses) > statistics.median(statistics.fmean(other[: len(losses)]) for other in finished)
