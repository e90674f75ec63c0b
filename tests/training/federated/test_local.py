"""Hospitals that train one network in turn: nobody's training shows in another's, and moments are those of what enters BatchNorm."""

import numpy as np
import pytest

from ppdl.errors import ConfigError, DivergedError
from ppdl.protections.view import plain_view
from ppdl.training.federated.local import Local, begun
from ppdl.training.federated.schedule import largest_update, num_steps
from tests.training.toys import NUM_CLASSES, TinyNet, images_and_labels, training

IMAGES, LABELS = images_and_labels()
ROWS = {"anna": np.arange(40), "berta": np.flatnonzero(LABELS == 1)[15:], "clara": np.arange(40, 64)}  # berta has one class

STEPS = num_steps(map(len, ROWS.values()), training().batch_size, 1)


def make(**changes):
    settings = training(class_weights="balanced", num_threads=1, **changes)
    counts = np.bincount(LABELS, minlength=NUM_CLASSES)
    view = plain_view(IMAGES)
    network = begun(TinyNet(), view, NUM_CLASSES, 3)
    return Local(network, settings, view, LABELS, ROWS, hospitals=list(ROWS), class_counts=counts, seed=3)


@pytest.fixture(scope="module")
def local():
    return make()


@pytest.fixture(scope="module")
def start(local):
    return local.weights


def test_a_round_at_a_hospital_depends_on_nothing_but_the_hospital_the_round_and_the_weights(local, start):
    def trained(name, number):
        return local.train(name, start, None, number=number, epochs=1, rate=1e-2)

    first = trained("anna", 0)
    moved = [trained(name, number).weights for name, number in (("berta", 0), ("clara", 0), ("anna", 1))]
    local.moments("clara", start)
    again = trained("anna", 0)
    assert np.array_equal(first.weights, again.weights)
    assert all(np.array_equal(a, b) for a, b in zip(first.optimizer, again.optimizer, strict=True))
    assert not any(np.array_equal(first.weights, other) for other in moved)
    fresh = make().train("anna", start, None, number=0, epochs=1, rate=1e-2)
    assert np.array_equal(first.weights, fresh.weights)


def test_an_optimizer_goes_on_from_where_the_hospital_left_it(local, start):
    one = local.train("anna", start, None, number=0, epochs=1, rate=1e-2)
    kept = local.train("anna", one.weights, one.optimizer, number=1, epochs=1, rate=5e-3)
    afresh = local.train("anna", one.weights, None, number=1, epochs=1, rate=5e-3)
    steps = dict(zip([v.name for v in local.network.optimizer.variables], kept.optimizer, strict=True))
    assert steps["iteration"] == 2 * STEPS and steps["learning_rate"] == np.float32(5e-3)
    assert not np.array_equal(kept.weights, afresh.weights)


def test_a_round_never_moves_a_weight_further_than_the_bound(local, start):
    for name in ROWS:
        moved = np.abs(local.train(name, start, None, number=0, epochs=2, rate=1e-2).weights - start)
        assert 0 < moved.max() <= largest_update(1e-2, 2 * STEPS)


def test_moments_are_the_means_and_mean_squares_of_what_enters_batchnorm(local, start):
    """One batch of 64 films that has each of anna's 40 once, and 24 of them twice."""
    import keras

    convolution = next(layer for layer in local.network.layers if isinstance(layer, keras.layers.Conv2D))
    order = local._plain["anna"]._order
    into = keras.Model(local.network.inputs, convolution.output)
    local._plain["anna"].set_epoch(0)
    found = local.moments("anna", start)
    values = np.asarray(into(IMAGES[ROWS["anna"][order]]), np.float64)
    means, squares = np.split(found, 2)
    assert means == pytest.approx(values.mean(axis=(0, 1, 2)), abs=1e-5)
    assert squares == pytest.approx((values**2).mean(axis=(0, 1, 2)), rel=1e-5)


def test_the_moments_that_a_network_starts_with_are_those_of_its_statistics():
    made = make()
    assert made.sizes == [8] and made.moments_before.tolist() == [0.0] * 8 + [1.0] * 8


def test_a_network_is_asked_with_the_statistics_that_moments_say(local, start):
    found = local.moments("anna", start)
    logits = local.logits(np.arange(10), start, found)
    assert logits.shape == (10, NUM_CLASSES)
    means, squares = np.split(found, 2)
    assert np.asarray(local._means[0]) == pytest.approx(means, rel=1e-6, abs=1e-7)
    assert np.asarray(local._variances[0]) == pytest.approx(squares - means**2, rel=1e-4, abs=1e-6)
    assert not np.allclose(local.logits(np.arange(10), start, found * 2), logits)


def test_what_cannot_be_trained_is_refused(local, start):
    with pytest.raises(ConfigError, match=r"training\.devices must be 1 where hospitals train in turn, got 2"):
        make(devices=2)
    with pytest.raises(DivergedError, match="learning_rate is too high: weights of anna are no numbers after round 1"):
        local.train("anna", start * np.float32(np.nan), None, number=0, epochs=1, rate=1e-2)
