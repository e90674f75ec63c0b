"""The budget by formulas of its own, and the noise by its distribution."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from ppdl.errors import ConfigError
from ppdl.pooling.privacy.promise import Privacy, budget, noise_multiplier, spent_epsilon
from ppdl.records.typecheck import check_types

opendp = pytest.importorskip("opendp", reason="the extra `privacy` is not installed")
from ppdl.pooling.privacy.promise import discrete_gaussian  # noqa: E402

RULES = {"epsilon": 3.0, "delta": 1e-6, "colluders": 1, "films_per_patient": 1, "clip": 0.25}
FINE = ((0.001, 500),)


def gaussian_epsilon(sigma, delta):
    """Epsilon of one Gaussian of deviation `sigma` at distance 1, exactly: B. Balle, Y.-X. Wang, ICML 2018, theorem 8."""

    def excess(epsilon):
        return stats.norm.cdf(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * stats.norm.cdf(-0.5 / sigma - epsilon * sigma) - delta

    return optimize.brentq(excess, 0, 0.5 / sigma**2 + 10 / sigma)


def canonne(rho, delta):
    """Epsilon of rho-zCDP at `delta`: Canonne, Kamath, Steinke 2020, corollary 13, minimised over orders."""
    orders = 1 + np.logspace(-3, 4, 200_000)
    return float((orders * rho + (np.log1p(-1 / orders) * orders - math.log(delta) - np.log(orders - 1))[0:] / (orders - 1)).min())


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0, 12.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_the_budget_is_that_of_formulas_of_its_own(sigma, delta):
    rho = budget(sigma, 1, FINE)
    assert rho == 1 / (2 * sigma**2)
    found = spent_epsilon(rho, delta)
    assert found == pytest.approx(canonne(rho, delta), rel=1e-4)
    assert 1 <= found / gaussian_epsilon(sigma, delta) < 1.2


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 30.0])
def test_the_multiplier_is_the_least_that_keeps_the_promise(epsilon):
    multiplier = noise_multiplier(Privacy(**RULES | {"epsilon": epsilon}), 3, FINE)
    assert canonne(1 / (2 * multiplier**2), 1e-6) <= epsilon * 1.0001
    assert canonne(1 / (2 * (multiplier - 2 / 1024) ** 2), 1e-6) > epsilon


def test_sums_of_few_coarse_draws_cost_more_than_one_draw():
    """Between proposition 14's bound and nothing: coarse noise of several hospitals is no discrete Gaussian."""
    coarse = ((1.0, 2000),)
    assert budget(1.0, 1, coarse) == 0.5 and budget(100.0, 10, coarse) == pytest.approx(0.5e-4)
    tau = 10 * math.exp(-(math.pi**2) / 2)
    assert budget(1.0, 2, coarse) == pytest.approx(0.5 + 2000 * tau)
    assert budget(0.6, 2, coarse) == math.inf


def test_draws_are_those_of_a_discrete_gaussian():
    """One chi-square test over three scales; a sound sampler fails it once in a million runs."""
    expected, seen = [], []
    for scale in (0.7, 2.5, 9.0):
        drawn, most = discrete_gaussian(np.full(20_000, scale)), math.floor(2 * scale)  # hundreds of draws are beyond
        values = np.arange(-400, 401)
        mass = np.exp(-(values**2) / (2 * scale**2))
        mass /= mass.sum()
        for value in range(-most, most + 1):
            expected.append(20_000 * mass[values == value].sum())
            seen.append((drawn == value).sum())
        expected.append(20_000 * mass[np.abs(values) > most].sum())
        seen.append((np.abs(drawn) > most).sum())
    statistic = ((np.array(seen) - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(statistic, len(seen) - 3) > 1e-6


def test_each_value_has_the_noise_of_its_scale():
    drawn = discrete_gaussian(np.tile([1.0, 1e6, 1e3], 200)).reshape(200, 3)
    assert [round(math.log10(value)) for value in drawn.std(axis=0)] == [0, 6, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0.0}, "privacy.epsilon: must be > 0, got 0.0"),
        ({"epsilon": "8"}, "privacy.epsilon: must be a number, got '8'"),
        ({"delta": 1.0}, "privacy.delta: must be < 1, got 1.0"),
        ({"colluders": -1}, "privacy.colluders: must be >= 0, got -1"),
        ({"films_per_patient": 0}, "privacy.films_per_patient: must be >= 1, got 0"),
        ({"clip": 0.0}, "privacy.clip: must be > 0, got 0.0"),
    ],
)
def test_parameters_that_break_a_rule_are_named(change, message):
    check_types(Privacy, RULES, "privacy")
    with pytest.raises(ConfigError, match=message):
        check_types(Privacy, RULES | change, "privacy")


def test_colluders_and_promises_that_no_noise_keeps_are_refused():
    with pytest.raises(ConfigError, match=r"privacy.colluders must be below the number of hospitals, 3, .* got 3"):
        noise_multiplier(Privacy(**RULES | {"colluders": 3}), 3, FINE)
    for change in ({"epsilon": 1e-9, "delta": 1e-12}, {"epsilon": 120.0}, {"delta": 1e-60}):
        with pytest.raises(ConfigError, match=r"no noise keeps privacy.epsilon .* at privacy.delta .*: raise delta"):
            noise_multiplier(Privacy(**RULES | change), 3, FINE)
