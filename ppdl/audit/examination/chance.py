"""Whether something happens more often than chance allows, for attacks whose verdict is a count.

Counts are compared with counts at places where nothing can be expected, so that no law of the values is assumed: given the sum of both, the
first is binomial (J. Przyborowski and H. Wilenski, Homogeneity of results in testing samples from Poisson series, Biometrika 31, 1940).
An attack divides `FALSE_ALARM` by the number of tests that it makes. All attacks of an audit of this kind together stay below ten times it.
"""

import math

FALSE_ALARM = 1e-6
POWER = 0.8


def p_value(hits: int, trials: int, far_hits: int, far_trials: int) -> float:
    """Return how probable as many hits are, if they come at the rate of the others: in [0, 1]."""
    from scipy.stats import binom  # a second to import, and every stage checks the attacks

    return float(binom.sf(hits - 1, hits + far_hits, trials / (trials + far_trials)))


def smallest_rate(trials: int, chance: float, num_tests: int) -> float:
    """Return the smallest true rate of hits that a test of `trials` finds with probability `POWER`, against one by chance of `chance`."""
    return rates(trials, chance, num_tests)[1]


def rates(trials: int, chance: float, num_tests: int = 1) -> tuple[float, float]:
    """Return the smallest share of hits that chance gives once in `FALSE_ALARM` at most, and the true one found with probability `POWER`.

    Where chances differ from trial to trial `chance` is their mean: as many hits are no likelier then (W. Hoeffding, On the distribution of
    the number of successes in independent trials, Ann. Math. Statist. 27, 1956). The first is above 1 where no number of hits will do.
    """
    from scipy.stats import beta, binom

    least = int(binom.isf(FALSE_ALARM / num_tests, trials, chance)) + 1
    return least / trials, float(beta.ppf(POWER, least, trials - least + 1)) if least <= trials else 1.0


def p_value_of_overlap(hits: int, drawn: int, marked: int, size: int) -> float:
    """Return how probable `hits` or more marked ones are among `drawn` of `size`, of which `marked` are: in [0, 1].

    Source: R. Fisher, The logic of inductive inference, J. Royal Statistical Society 98(1), 1935.
    """
    from scipy.stats import hypergeom

    return float(hypergeom.sf(hits - 1, size, marked, drawn))


def p_value_of_matches(hits: int, size: int) -> float:
    """Return how probable `hits` or more fixed points of a random permutation of `size` are: in [0, 1].

    Source: P. de Montmort, Essay d'analyse sur les jeux de hazard, 1713.
    """
    derangements = [1, 0]
    for k in range(2, size + 1):
        derangements.append((k - 1) * (derangements[-1] + derangements[-2]))
    return sum(math.comb(size, k) * derangements[size - k] for k in range(hits, size + 1)) / math.factorial(size)
