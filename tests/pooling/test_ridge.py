import numpy as np
import pytest

from ppdl.errors import DataError
from ppdl.pooling.ridge import fit_ridge, solve
from ppdl.pooling.sums import integer_features, sums_of

STRENGTHS = (0.003, 0.03, 0.3)


def drawn(num_films=400, num_features=12, seed=3, spread=0.06):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_films)
    centres = rng.uniform(0.3, 0.7, (3, num_features))
    return np.clip(centres[labels] + rng.normal(0, spread, (num_films, num_features)), 0, 1), labels


def total_of(features, labels):
    return sums_of(integer_features(features, 12), labels, num_classes=3, feature_bits=12)


@pytest.mark.parametrize("strength", [0.003, 0.3, 30.0])
def test_the_head_is_that_of_ridge_regression_on_the_films(strength):
    """scikit-learn's Ridge on standardised features, alpha = n strength, is the reference."""
    from sklearn.linear_model import Ridge

    features, labels = drawn()
    whole = integer_features(features, 12)
    mean, spread = whole.mean(axis=0), whole.std(axis=0)
    expected = Ridge(alpha=len(labels) * strength).fit((whole - mean) / spread, np.eye(3)[labels]).predict((whole - mean) / spread)
    weights, bias, chosen = solve(total_of(features, labels), [strength])
    assert chosen == strength
    np.testing.assert_allclose(whole @ weights.T + bias, expected, atol=1e-9)


def test_the_strength_is_that_of_generalised_cross_validation_on_the_films():
    """Golub, Heath, Wahba 1979: least |(I - A) y|^2 / n / (1 - tr A / n)^2, with the hat matrix A in full."""
    features, labels = drawn(num_films=60, num_features=40, spread=0.5)
    whole = integer_features(features, 12).astype(float)
    z, y, n = (whole - whole.mean(axis=0)) / whole.std(axis=0), np.eye(3)[labels], len(labels)
    scores = {}
    for strength in (0.001, 0.01, 0.1, 1.0, 10.0):
        hat = z @ np.linalg.solve(z.T @ z + n * strength * np.eye(40), z.T) + 1 / n
        scores[strength] = ((y - hat @ y) ** 2).sum() / n / (1 - np.trace(hat) / n) ** 2
    best = min(scores, key=scores.get)
    assert best not in (0.001, 10.0)  # else the test could not fail
    assert solve(total_of(features, labels), list(scores))[2] == best


def test_the_integer_head_says_what_the_solution_says():
    features, labels = drawn()
    total = total_of(features, labels)
    weights, bias, _ = solve(total, STRENGTHS)
    head, _ = fit_ridge(total, STRENGTHS, class_names=("a", "b", "c"), backbone={})
    logits = head.logits(head.quantise(features)) * head.logit_scale
    np.testing.assert_allclose(logits, integer_features(features, 12) @ weights.T + bias, atol=0.05)
    assert (logits.argmax(axis=1) == labels).mean() > 0.99
    assert head.feature_scale == 1 / 255


def test_the_temperature_is_near_the_best_on_films_that_nobody_summed():
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    features, labels = drawn(num_films=6000, spread=0.3)
    head, _ = fit_ridge(total_of(features[:3000], labels[:3000]), STRENGTHS, class_names=("a", "b", "c"), backbone={})
    scores, truth = head.logits(head.quantise(features[3000:])) * head.logit_scale, labels[3000:]
    loss = lambda t: -log_softmax(scores / t, axis=1)[np.arange(3000), truth].mean()  # noqa: E731
    best = minimize_scalar(loss, bounds=(0.01, 10), method="bounded").x
    assert loss(head.temperature) < loss(best) + 0.01 < loss(1) - 0.1
    assert head.temperature == float(f"{head.temperature:.2g}")


def test_features_that_never_vary_do_no_harm():
    features, labels = drawn()
    features[:, 4] = 0.5
    head, _ = fit_ridge(total_of(features, labels), STRENGTHS, class_names=("a", "b", "c"), backbone={})
    assert (head.logits(head.quantise(features)).argmax(axis=1) == labels).mean() > 0.99


def test_a_class_without_films_gives_no_head():
    features, labels = drawn()
    with pytest.raises(DataError, match="a class has no film in the total"):
        fit_ridge(total_of(features, np.minimum(labels, 1)), STRENGTHS, class_names=("a", "b", "c"), backbone={})
