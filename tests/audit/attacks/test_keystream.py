"""One keystream for several images, from the ciphertexts alone."""

import numpy as np
import pytest

from ppdl.audit.attacks.keystream import Keystream
from ppdl.audit.examination.base import Target, Truth
from ppdl.audit.examination.chance import FALSE_ALARM
from ppdl.errors import AttackDoesNotApply
from tests.audit import schemes
from tests.audit.schemes import SCHEMES, pads

ATTACK = Keystream(num_images=24, num_scored=8)


@pytest.fixture(scope="module")
def images():
    return schemes.films(1, 24, 32)  # without a black border, which would make it easy


def found(name, images, seed=0):
    protected = SCHEMES[name].protect(images, np.random.default_rng(seed))
    target = schemes.target(protected, schemes.films(9, 100, 32))
    return ATTACK.examine(target, Truth(images), np.random.default_rng(seed)).metrics


@pytest.mark.parametrize(
    ("name", "test"),
    [("xor_one_pad", "XORs"), ("added_one_pad", "differences"), ("logistic_one_key", "XORs"), ("aes_gcm_one_nonce", "XORs")],
)
def test_a_pad_for_all_images_is_found_and_taken_off(images, name, test):
    metrics = found(name, images)
    assert metrics["test"] == test
    assert metrics["p_value"] < 1e-9
    assert "in the same way in all images" in metrics["leak"]
    assert metrics["ssim"] > 0.5


def test_two_images_are_enough_to_find_it(images):
    metrics = found("xor_one_pad", images[:2])
    assert metrics["leak"] and metrics["coincidences"] > 3 * metrics["chance_coincidences"]


@pytest.mark.parametrize("name", ["lorenz_feedback", "dna_addition"])
def test_a_table_at_each_place_is_found(images, name):
    assert found(name, schemes.collimated(1, 24, 32))["leak"]


@pytest.mark.parametrize("name", ["noise", "xor_fresh", "added_fresh", "aes_cbc_fresh", "aes_ctr_fresh", "aes_gcm_fresh", "permuted_fresh"])
def test_nothing_is_found_without_reuse(images, name):
    metrics = found(name, images)
    assert metrics["leak"] is None
    assert metrics["p_value"] > FALSE_ALARM
    assert "ssim" not in metrics


def test_p_values_are_uniform_or_larger_on_noise():
    """Of 200 sets of noise, a tenth has its least p below 0.1 / 5 tests, give or take; a threshold that is met too often would show."""
    rng, low = np.random.default_rng(3), 0
    for _ in range(200):
        noise = rng.integers(0, 256, (6, 16, 16), dtype=np.uint8)
        low += ATTACK.run(schemes.target(noise, None), rng).metrics["p_value"] < 0.1 / 5
    assert low < 40  # 20 are expected: 40 would be 4.7 standard deviations


def test_says_what_it_would_have_seen(images):
    rates = [found("noise", images[:count])["unseen"] for count in (4, 24)]
    least = [float(text.split("%")[0].split()[-1]) for text in rates]
    assert least[0] > least[1] > 100 / 256  # more images show smaller effects


def test_the_smallest_effect_is_seen_four_times_of_five(images):
    """Pairs of equal pixels at the rate that `unseen` names are found at about the probability that it promises."""
    noise = schemes.noise(images[:8], np.random.default_rng(0))
    rate = float(ATTACK.run(schemes.target(noise, None), np.random.default_rng(0)).metrics["unseen"].split("%")[0].split()[-1]) / 100
    seen = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = rng.integers(0, 256, noise.shape)
        again = rng.random(values[::2].shape) < (rate - 1 / 256) / (1 - 1 / 256)
        values[1::2] = np.where(again, values[::2], values[1::2])
        seen += ATTACK.run(schemes.target(values.astype(np.uint8), None), rng).metrics["leak"] is not None
    assert 20 <= seen <= 40


def test_without_public_images_nothing_is_rebuilt_and_one_image_is_too_few(images):
    protected = pads.xor_pad(images, np.random.default_rng(0), fresh=False)
    finding = ATTACK.examine(schemes.target(protected, None), Truth(images), np.random.default_rng(0))
    assert finding.metrics["leak"] and finding.rebuilt is None
    with pytest.raises(AttackDoesNotApply, match="one image"):
        ATTACK.examine(schemes.target(protected[:1], None), Truth(images[:1]), np.random.default_rng(0))
    with pytest.raises(AttackDoesNotApply, match="no ciphertext occurs twice"):
        ATTACK.examine(Target("set", *images.shape, picture=protected), Truth(images), np.random.default_rng(0))
