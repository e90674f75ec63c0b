"""Negative controls: a network fed with IND-CPA ciphertexts must stay at chance, for otherwise something leaks.

One in 10,000 sound controls fails the test by bad luck, so a failure is repeated under a second key before it counts.
"""

from __future__ import annotations

from collections.abc import Callable

from ppdl.errors import LeakError
from ppdl.evaluation.permutation import PermutationResult


def settle_control(name: str, first: PermutationResult, repeat: Callable[[], PermutationResult]) -> str:
    """Decide on a control, repeating the experiment under a second key when it failed.

    Args:
        name: the run's.
        first: of `permutation_test` on the run's test predictions.
        repeat: encrypts, trains and tests again under a key of its own.

    Returns:
        The finding in words.

    Raises:
        LeakError: it failed twice.
    """
    if not first.beats_chance:
        return first.sentence
    second = repeat()
    if second.beats_chance:
        raise LeakError(
            f"the negative control {name} beat chance under two keys (p = {first.p_value:.2g} and {second.p_value:.2g}), so its "
            "ciphertexts leak: look for an obfuscator that is used twice, or for a label that reaches the view by its order or size; do "
            f"not use any result of these ciphertexts. {first.sentence} {second.sentence}"
        )
    return f"{first.sentence} Repeated under a second key: {second.sentence}"
