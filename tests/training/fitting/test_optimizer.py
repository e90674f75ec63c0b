"""The learning rate rises and falls as said, and the flat optimizer is AdamW."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from ppdl.training.fitting.optimizer import FlatAdamW, warmup_cosine


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


def test_warm_up_is_linear_and_ends_at_the_rate():
    np.testing.assert_allclose(rates(warmup_cosine(0.1, 4, 20), range(5)), [0.025, 0.04375, 0.0625, 0.08125, 0.1], rtol=1e-6)


def test_after_the_warm_up_follows_half_a_cosine_to_zero():
    after = rates(warmup_cosine(0.1, 4, 20), range(4, 21))
    np.testing.assert_allclose(after, 0.05 * (1 + np.cos(np.pi * np.arange(17) / 16)), atol=1e-8)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 10), (1, 1), (3, 4)])
def test_short_trainings_stay_between_zero_and_the_rate(warmup, steps):
    found = rates(warmup_cosine(0.1, warmup, steps), range(steps + 1))
    assert (found >= 0).all() and (found <= 0.1 + 1e-8).all() and found[:steps].max() == pytest.approx(0.1)


def network(*, table: bool) -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((4, 4), dtype="int32")
    x = keras.layers.Embedding(6, 2)(inputs) if table else keras.layers.Reshape((4, 4, 1))(keras.layers.Rescaling(0.3)(inputs))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 2, use_bias=False)(x))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


def trained(optimizer: keras.optimizers.Optimizer, *, table: bool = False) -> list[np.ndarray]:
    model = network(table=table)
    if isinstance(optimizer, keras.optimizers.AdamW):
        optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if v.name != "kernel"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    for _ in range(4):
        model.train_on_batch(rng.integers(0, 6, (5, 4, 4)), rng.integers(0, 2, 5))
    return model.get_weights()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_flat_optimizer_makes_the_steps_of_adamw(decay):
    rate = warmup_cosine(0.05, 2, 6)
    keras_s = keras.optimizers.AdamW(rate, weight_decay=decay) if decay else keras.optimizers.Adam(rate)
    for ours, theirs in zip(trained(FlatAdamW(rate, weight_decay=decay)), trained(keras_s), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_the_gradient_of_a_table_counts_every_use_of_a_symbol():
    # TensorFlow gives it as sparse slices with repeated rows.
    tf = pytest.importorskip("tensorflow")
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), tf.constant([1, 0, 1]), tf.constant([3, 2]))
    steps = []
    for gradient in (slices, tf.constant([[3.0, 4.0], [6.0, 8.0], [0.0, 0.0]])):
        table, optimizer = keras.Variable(np.zeros((3, 2), np.float32)), FlatAdamW(0.1, weight_decay=0.0)
        optimizer.build([table])
        optimizer.apply([gradient], [table])
        steps.append([table.numpy(), optimizer.momentum.numpy(), optimizer.velocity.numpy()])
    for ours, expected in zip(*steps, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
    np.testing.assert_allclose(steps[0][1], [0.3, 0.4, 0.6, 0.8, 0, 0], rtol=1e-5)


def test_tables_biases_and_batchnorm_do_not_decay():
    names = [v.name for v in network(table=True).weights]
    high, low = (trained(FlatAdamW(0.01, weight_decay=decay), table=True) for decay in (5.0, 0.0))
    ratio = {name: np.abs(a).sum() / np.abs(b).sum() for name, a, b in zip(names, high, low, strict=True) if np.abs(b).sum() > 0}
    assert ratio["kernel"] < 0.9
    assert ratio["embeddings"] > 0.95 and ratio["gamma"] > 0.95
