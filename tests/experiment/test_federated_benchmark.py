"""The benchmark of federated averaging shares every film out once, patients whole, and tells rows by what was trained."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import federated_xrays as bench
from ppdl.evaluation.predictions.predictions import Predictions
from ppdl.pooling.subjects.mean import MeanSums


@pytest.mark.parametrize("seed", range(5))
def test_films_are_shared_out_by_class_with_groups_whole(seed):
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, 150, 300))
    labels = (np.arange(150) % 3)[groups]
    rows = rng.permutation(1000)[:300]
    found = bench.share_by_dirichlet(rows, labels, groups, seed)
    assert sorted(np.concatenate(list(found.values()))) == sorted(rows) and list(found) == bench.ALONE
    assert min(map(len, found.values())) >= bench.LEAST_FILMS
    of_row = dict(zip(rows, groups, strict=True))
    owners = [{of_row[row] for row in own} for own in found.values()]
    assert not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    assert bench.share_by_dirichlet(rows, labels, groups, seed)["hospital_1"].tolist() == found["hospital_1"].tolist()


def test_sums_in_the_clear_are_means_rounded_or_not():
    films, subject = {"anna": 10, "berta": 30}, MeanSums("update 0", "0" * 64, 16, ((4, 1.0),))
    brought = {"anna": np.full(4, 0.25), "berta": np.full(4, -0.5)}
    exact, rounded = (bench.InTheClear(films, way)(subject, brought) for way in (False, True))
    assert exact == pytest.approx(-0.3125, abs=1e-12) and rounded == pytest.approx(exact, abs=1e-4)
    assert not np.array_equal(exact, rounded)


def test_the_table_has_a_row_for_what_was_trained_with_its_difference_to_central(tmp_path, capsys):
    labels = np.arange(60) % 3
    for name, right in (("iid_central", 58), ("iid_16_bits", 55), *((f"iid_{alone}", 40) for alone in bench.ALONE)):
        for seed in range(2):
            logits = np.eye(3)[np.where(np.arange(60) < right, labels, (labels + 1) % 3)]
            Predictions(labels, logits, np.arange(60), np.arange(60), ("a", "b", "c")).save(tmp_path / f"{name}-{seed}.npz")
    rows = list(bench.summary(tmp_path, SimpleNamespace(rows=lambda _: np.arange(60))))
    assert [(row["films"], row["way"], row["seeds"]) for row in rows] == [("all", "central", 2), ("iid", "16 bits", 2), ("iid", "alone", 2)]
    (averaged,) = rows[1]["hospitals"]
    assert averaged["minus_central"] == pytest.approx(-3 / 60) and averaged["low"] < -3 / 60 < averaged["high"]
    assert rows[2]["accuracy"] == pytest.approx(40 / 60) and len(rows[2]["hospitals"]) == 3
    bench.show(rows)
    assert "91.7 [" in capsys.readouterr().out
