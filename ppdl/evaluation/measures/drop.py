"""What a run loses on the images of another hospital."""

import math
from collections.abc import Mapping
from typing import Any


def accuracy_drop(own: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, float]:
    """Return accuracy on the own test images minus that on another hospital's, with the ends of its 95 % interval.

    The patients are other ones, so the two errors are independent, and the distances from the shares to their ends are added as errors are.

    Args:
        own, there: accuracy, accuracy_low and accuracy_high, as `evaluate` gives them.

    Returns:
        accuracy_drop, accuracy_drop_low and accuracy_drop_high, from -1 to 1; above 0 the run is worse there.

    Source: Newcombe, Stat. Med. 17 (1998) 873, method 10; Zou and Donner, Stat. Med. 27 (2008) 1693, for other intervals than Wilson's.
    """
    names = ("accuracy", "accuracy_low", "accuracy_high")
    (a, a_low, a_high), (b, b_low, b_high) = ([found[name] for name in names] for found in (own, there))
    low, high = a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)
    return {"accuracy_drop": a - b, "accuracy_drop_low": max(low, -1.0), "accuracy_drop_high": min(high, 1.0)}
