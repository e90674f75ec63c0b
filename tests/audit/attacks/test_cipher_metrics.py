"""The figures that papers report."""

from dataclasses import replace

import numpy as np
import pytest

from ppdl.audit.attacks.as_is import likeness
from ppdl.audit.attacks.cipher_metrics import CipherMetrics, entropy, information, npcr, uaci
from ppdl.audit.examination.base import Target, Truth
from ppdl.config.components import construct
from ppdl.errors import ConfigError
from tests.audit import schemes

ATTACK = CipherMetrics(num_scored=20)
SUCCESS = {"psnr", "ssim", "advantage", "top1"}


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 30)


def _table(images):
    return np.random.default_rng(1).permutation(256).astype(np.uint8)[images]


def test_noise_has_the_ideal_figures(images):
    metrics = schemes.examine(ATTACK, schemes.noise(images, np.random.default_rng(0)), images).metrics
    ideal = metrics["ideal"]
    assert metrics["entropy"] == pytest.approx(ideal["entropy"], abs=0.005)
    assert metrics["chi_square"] == pytest.approx(255, abs=20)  # standard error sqrt(510 / 20) = 5
    assert all(abs(metrics[f"correlation_{way}"]) < 0.02 for way in "hvd")
    assert metrics["mutual_information"] == pytest.approx(metrics["mutual_information_shuffled"], abs=0.02)
    assert not SUCCESS & metrics.keys()


def test_identity_has_none_of_them(images):
    metrics = schemes.examine(ATTACK, images, images).metrics
    assert metrics["entropy"] < 7.6
    assert metrics["correlation_h"] > 0.9
    assert metrics["chi_square"] > 1000
    assert metrics["mutual_information"] > metrics["mutual_information_shuffled"] + 5
    assert not SUCCESS & metrics.keys()


def test_a_substitution_tells_all_and_changes_one_pixel_for_one(images):
    target = replace(schemes.target(_table(images), None), encrypt=lambda chosen: schemes.target(_table(chosen), None))
    metrics = ATTACK.examine(target, Truth(images), np.random.default_rng(0)).metrics
    assert metrics["npcr"] == pytest.approx(100 / 64**2)
    pixels = np.bincount(images[np.unique(np.linspace(0, 29, 20).astype(int))].ravel(), minlength=256) / (20 * 64**2)
    assert metrics["mutual_information"] == pytest.approx(-(pixels[pixels > 0] * np.log2(pixels[pixels > 0])).sum())
    assert "key_sensitivity" not in metrics


def test_randomised_encryption_has_ideal_npcr_and_uaci_even_of_the_same_image(images):
    rng = np.random.default_rng(0)
    encrypt = lambda chosen: Target("noise", *chosen.shape, picture=schemes.noise(chosen, rng))  # noqa: E731
    target = Target("noise", *images.shape, picture=schemes.noise(images, rng), encrypt=encrypt, rekey=encrypt)
    metrics = ATTACK.examine(target, Truth(images), rng).metrics
    assert metrics["npcr"] == pytest.approx(metrics["ideal"]["npcr"], abs=0.4)
    assert metrics["uaci"] == pytest.approx(metrics["ideal"]["uaci"], abs=1.5)
    assert metrics["key_sensitivity"] == pytest.approx(metrics["ideal"]["key_sensitivity"], abs=0.4)


def test_both_images_are_encrypted_in_one_call(images):
    seen = []

    def encrypt(chosen):
        seen.append(chosen)
        return schemes.target(chosen, None)

    ATTACK.examine(replace(schemes.target(images, schemes.films(9, 10)), encrypt=encrypt), Truth(images), np.random.default_rng(0))
    (pair,) = seen
    difference = pair[0].astype(int) - pair[1]
    assert np.count_nonzero(difference) == 1
    assert abs(difference).max() == 1


def test_a_picture_of_another_size_has_no_mutual_information(images):
    target = Target("folder", *images.shape, picture=images[:, ::2, ::2])
    assert "mutual_information" not in ATTACK.examine(target, Truth(images), np.random.default_rng(0)).metrics


def test_formulas_on_small_cases():
    zeros, ones = np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)
    assert npcr(zeros, ones) == uaci(zeros, ones) == 100.0
    assert npcr(zeros, zeros) == uaci(zeros, zeros) == 0.0
    assert entropy(np.ones(256, int)) == 8.0
    assert entropy(np.bincount(zeros.ravel())) == 0.0
    assert likeness(zeros, ones) == 0.0
    assert information(np.array([0, 0, 1, 1]), np.array([5, 5, 9, 9]), np.random.default_rng(0))["mutual_information"] == 1.0


def test_ideal_values_are_those_of_the_paper(images):
    ideal = ATTACK.examine(schemes.target(images, None), Truth(images), np.random.default_rng(0)).metrics["ideal"]
    assert ideal["npcr"] == pytest.approx(99.6094, abs=5e-5)
    assert ideal["uaci"] == pytest.approx(33.4635, abs=5e-5)


def test_refuses_bad_arguments():
    with pytest.raises(ConfigError, match="num_scored"):
        construct(CipherMetrics, {"num_scored": 0}, "attack")
