"""A control that beats chance is tried again under a second key, and twice is a leak."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.errors import LeakError
from ppdl.evaluation.controls import settle_control
from ppdl.evaluation.permutation import PermutationResult, permutation_test
from ppdl.evaluation.predictions import Predictions

LABELS = np.arange(90) % 3


def examined(*, knows: bool) -> PermutationResult:
    said = LABELS if knows else np.random.default_rng(1).permutation(LABELS)
    predictions = Predictions(LABELS, np.eye(3)[said], np.arange(90), np.arange(90), ("a", "b", "c"))
    return permutation_test(predictions, num_permutations=10_000, seed=0, name="opaque")


def never() -> PermutationResult:
    raise AssertionError("a control that passed must not be repeated")


def test_a_control_at_chance_is_settled_at_once():
    assert "no evidence" in settle_control("opaque", examined(knows=False), never)


def test_a_failure_that_a_second_key_does_not_confirm_is_bad_luck_and_said():
    text = settle_control("opaque", examined(knows=True), lambda: examined(knows=False))
    assert "Repeated under a second key" in text and text.count("Balanced accuracy of opaque") == 2


def test_a_failure_under_two_keys_is_a_leak():
    with pytest.raises(LeakError, match=r"negative control opaque beat chance under two keys \(p = 0.0001 and 0.0001\)"):
        settle_control("opaque", examined(knows=True), lambda: examined(knows=True))
