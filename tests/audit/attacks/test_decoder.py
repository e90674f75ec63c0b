"""The decoder: never worse than its linear start on images that were held out, and the same in every run."""

import numpy as np

from ppdl.audit.attacks.decoder import Decoder

PASSES = 40


def task(rng):
    """Patches that depend on their neighbourhood in a way that the start does not know."""
    seen = rng.normal(size=(40, 12, 12, 1)).astype(np.float32)
    neighbour = np.roll(seen, 1, axis=2)
    return seen, np.concatenate([np.abs(neighbour), seen], -1)


def missed(decoder, num_train=32):
    seen, patches = task(np.random.default_rng(0))
    start = np.zeros_like(patches)
    decode = decoder.fit([seen], [start], patches, num_train, np.random.default_rng(1))
    return decode(0, seen[num_train:], start[num_train:]), patches[num_train:]


def test_learns_what_the_start_does_not_know():
    rebuilt, patches = missed(Decoder(PASSES))
    assert np.mean((rebuilt - patches)[:, :, 1:] ** 2) < 0.5 * np.mean(patches[:, :, 1:] ** 2)


def test_two_runs_are_equal():
    np.testing.assert_allclose(missed(Decoder(PASSES))[0], missed(Decoder(PASSES))[0], rtol=1e-4, atol=1e-5)


def test_nothing_to_learn_leaves_the_start():
    rng = np.random.default_rng(2)
    seen, patches = (rng.normal(size=(40, 8, 8, 1)).astype(np.float32) for _ in range(2))
    start = np.zeros_like(patches)
    decode = Decoder(PASSES).fit([seen], [start], patches, 32, rng)
    assert np.mean((decode(0, seen[32:], start[32:]) - patches[32:]) ** 2) <= np.mean(patches[32:] ** 2) * 1.0001
