"""Frequencies alone: they break a set whose histogram is known, do poorly on X-rays, and tell nothing about noise."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.audit.attacks.frequency import Frequency
from ppdl.audit.attacks.seriation import Seriation
from ppdl.audit.examination.base import Finding, Symbols, Target, Truth, scored_rows
from ppdl.config.components import construct
from ppdl.errors import AttackDoesNotApply, ConfigError
from tests.audit.schemes import films


def attack(symbols: np.ndarray, images: np.ndarray, prior: np.ndarray | None) -> Finding:
    target = Target("t", *images.shape, symbols=Symbols(symbols, 256, None), prior=prior)
    return Frequency(6).examine(target, Truth(images), np.random.default_rng(0))


def substituted(images: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).permutation(256).astype(np.uint8)[images]


def test_a_set_with_the_public_histogram_is_rebuilt_exactly():
    steep = np.repeat(np.arange(64, dtype=np.uint8), np.arange(1, 128, 2)).reshape(1, 64, 64)  # value v occurs 2 v + 1 times
    images = np.random.default_rng(2).permuted(steep.reshape(1, -1), axis=1).reshape(1, 64, 64).repeat(3, axis=0)
    finding = attack(substituted(images), images, steep)
    assert finding.metrics == {"psnr": 100.0, "ssim": 1.0}


def test_an_identity_encryption_of_the_public_images_is_rebuilt():
    images = np.random.default_rng(3).permutation(np.repeat(np.arange(90, dtype=np.uint8), np.arange(1, 91))[: 64 * 63]).reshape(1, 63, 64)
    assert attack(images, images, images).metrics["ssim"] > 0.99


def test_on_xrays_it_does_worse_than_seriation():
    images, prior = films(0, 20), films(99, 60)
    finding = attack(substituted(images), images, prior)
    target = Target("t", *images.shape, symbols=Symbols(substituted(images), 256, None), prior=prior)
    better = Seriation((None,), 1, 6).examine(target, Truth(images), np.random.default_rng(0))
    assert finding.metrics["ssim"] < 0.6 < better.metrics["ssim"]
    np.testing.assert_array_equal(finding.rebuilt.rows, scored_rows(20, 6))


def test_noise_is_not_rebuilt():
    images = films(0, 20)
    noise = np.random.default_rng(4).integers(0, 256, images.shape, dtype=np.uint8)
    assert attack(noise, images, films(99, 60)).metrics["ssim"] < 0.1


def test_more_symbols_than_public_values_become_middle_gray():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    rebuilt = attack(images, images, np.full((1, 16, 16), 3, np.uint8)).rebuilt.images
    assert np.count_nonzero(rebuilt == 3) == 1 and np.count_nonzero(rebuilt == 128) == 255


def test_what_it_needs_and_refuses():
    images = films(0, 20)
    with pytest.raises(AttackDoesNotApply, match="no public images"):
        attack(images, images, None)
    with pytest.raises(ConfigError, match="num_scored"):
        construct(Frequency, {"num_scored": 0}, "attack")
