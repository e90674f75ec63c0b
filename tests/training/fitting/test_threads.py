from __future__ import annotations

import joblib
import pytest

from ppdl.training.fitting.threads import num_cores


@pytest.mark.parametrize(("said", "found"), [("3", 3), ("2,1", 2), (" 5 ", 5)])
def test_the_number_that_libraries_are_told_holds_here_too(said, found, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert num_cores() == found


@pytest.mark.parametrize("said", ["", "0", "all", "-1"])
def test_what_is_no_number_leaves_all_cores(said, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert num_cores() == joblib.cpu_count()
