"""The benchmark runs on small sums; how fast it is depends on the machine and is no test."""

import json

import numpy as np
import pytest

from benchmarks import pool, pool_rivals
from ppdl.pooling.sums import num_sums

KEY = pool.make_key(512)


@pytest.fixture
def case():
    return pool.Case(48, 3)


def test_figures_are_those_of_json(monkeypatch, capsys):
    monkeypatch.setattr(pool, "find_spec", lambda name: None)
    pool.main(["--smoke", "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    small, _, large = found["by_features"]
    for row in (small, large):
        sums = num_sums(3, row["num_features"])
        assert row["phe"]["mb"] == sums * 128 / 1e6 and row["masks"]["mb"] == (8 * sums + 32) / 1e6
        assert row["ratios"]["phe_hospital_over_own"] == row["phe"]["hospital"] / row["own"]["hospital"]
    # 30 bits a slot, 16 slots a ciphertext of 128 bytes, and 128 bytes that begin an .npy file; the rest is a signed commitment
    assert 0 < small["own"]["mb"] * 1e6 - (128 + 2 * 128) < 1000 and 0 < large["own"]["mb"] * 1e6 - (128 + 3 * 128) < 1000
    pool.show(found)
    shown = capsys.readouterr().out
    assert "exponents in features: hospital" in shown and found["exponents_in_films"].keys() == found["exponents_in_features"].keys()
    assert found["exponents_in_features"]["mb"] > found["exponents_in_films"]["mb"]
    assert "phe, scaled up" in shown and "ckks" not in shown and f"engine {found['engine']}" in shown


def test_exponents_are_those_of_powers():
    assert pool.exponent([1, 10, 100], [3, 300, 30_000]) == pytest.approx(2)


def test_long_runs_are_timed_once(monkeypatch):
    monkeypatch.setattr(pool, "pooled", lambda *_: None)
    times = {"short": iter([1, 5, 3]), "long": iter([11])}
    runs = {name: (lambda name=name: {"open": next(times[name])}) for name in times}
    assert pool.in_turns(runs, 3) == {"short": {"open": 3}, "long": {"open": 11}}


def test_masks_hide_and_cancel(case):
    assert pool_rivals.run_masks(case.shares, case.total)["open"] == 0
    secrets = [pool_rivals.X25519PrivateKey.generate() for _ in range(2)]
    one, other = (pool_rivals._mask(secrets[i], secrets[1 - i].public_key(), 1000) for i in (0, 1))
    assert np.array_equal(one, other) and len(np.unique(one)) == 1000 and one.max() > 2**63


def test_phe_is_scaled_up_from_the_sums_that_it_ran_on(case, monkeypatch):
    monkeypatch.setattr(pool_rivals, "_each", lambda run, arguments: ([run(a) for a in arguments], 1.0))
    found = pool_rivals.run_phe(KEY, case.shares, case.total, 6)
    assert (found["hospital"], found["add"], found["open"]) == (3.0, 3.0, 3.0)  # 18 sums


def test_wrong_results_are_not_timed(case, monkeypatch):
    with pytest.raises(AssertionError, match="not that in the clear"):
        pool_rivals.run_masks(case.shares, case.total + 1)
    with pytest.raises(AssertionError, match="not that in the clear"):
        pool_rivals.run_phe(KEY, case.shares, case.total + 1, 4)
    case.__dict__["total"] = case.total + 1
    with pytest.raises(AssertionError, match="is not the total in the clear"):
        pool.pooled(case, KEY)
