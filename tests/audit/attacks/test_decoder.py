"""The decoder: never worse than its linear start on images that were held out, and the same in every run."""

import numpy as np
import pytest

from ppdl.audit.attacks.decoder import Decoder
from ppdl.config.components import construct
from ppdl.errors import ConfigError

ARGS = {"width": 8, "depth": 1, "max_epochs": 15, "crop": 8, "patience": 5, "batch_size": 8, "learning_rate": 0.01}


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
    rebuilt, patches = missed(Decoder(**ARGS))
    assert np.mean((rebuilt - patches)[:, :, 1:] ** 2) < 0.5 * np.mean(patches[:, :, 1:] ** 2)


def test_two_runs_are_equal():
    np.testing.assert_allclose(missed(Decoder(**ARGS))[0], missed(Decoder(**ARGS))[0], rtol=1e-4, atol=1e-5)


def test_nothing_to_learn_leaves_the_start():
    rng = np.random.default_rng(2)
    seen, patches = (rng.normal(size=(40, 8, 8, 1)).astype(np.float32) for _ in range(2))
    start = np.zeros_like(patches)
    decode = Decoder(**ARGS).fit([seen], [start], patches, 32, rng)
    assert np.mean((decode(0, seen[32:], start[32:]) - patches[32:]) ** 2) <= np.mean(patches[32:] ** 2) * 1.0001


@pytest.mark.parametrize("change", [{"width": 0}, {"crop": 1.5}, {"learning_rate": 0.0}])
def test_bad_arguments_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        construct(Decoder, ARGS | change, "decoder")
