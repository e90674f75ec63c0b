"""The IND-CPA game: lost by everything that repeats itself, won by noise, with an interval that says so."""

import numpy as np
import pytest

from ppdl.audit.attacks.distinguisher import CLASSIFIERS, Distinguisher, DistinguisherView, most_different
from ppdl.audit.examination.base import Symbols, Target, Truth
from ppdl.audit.examination.verdict import advantage_interval
from ppdl.config.components import construct
from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.paillier import encrypt_batch, encrypt_batch_deterministic
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import AttackDoesNotApply, ConfigError

PX = 16


def prior():
    return np.random.default_rng(1).integers(0, 256, (6, PX, PX), dtype=np.uint8)


def play(encrypt, attack=None, **parts):
    target = Target("anything", 1, PX, PX, prior=prior(), encrypt=encrypt, **parts)
    attack = attack or Distinguisher(num_trials=200)
    return attack.examine(target, Truth(np.zeros((1, PX, PX), np.uint8)), np.random.default_rng(0)).metrics


def corners(images):
    return [int(image[0, 0]) for image in images]


def held(**parts):
    return Target("encrypted", 1, PX, PX, **parts)


def test_identity_is_told_apart_always():
    found = play(lambda images: held(symbols=Symbols(images, 256, None)))
    assert found["advantage"] == 1.0 and found["advantage_low"] > 0.9 and found["num_guessed"] == 120


def test_noise_is_not_told_apart_and_the_interval_is_narrow():
    noise = np.random.default_rng(2)
    found = play(lambda images: held(ciphertexts=noise.integers(0, 256, (len(images), 3, 96), dtype=np.uint8)))
    assert found["advantage_low"] < 0 < found["advantage_high"]
    assert (found["advantage_high"] - found["advantage_low"]) / 2 < 0.2


def test_fresh_paillier_is_not_told_apart_and_a_repeated_obfuscator_is():
    key = generate_keypair(512, allow_insecure_key=True).public
    obfuscators = build_obfuscators(key, table_bytes=2**18)

    def fresh(images):
        return held(ciphertexts=encrypt_batch(key, corners(images), obfuscators)[:, None])

    def repeated(images):
        return held(ciphertexts=encrypt_batch_deterministic(key, corners(images), obfuscators)[:, None])

    assert abs(play(fresh)["advantage"]) < 0.4  # obfuscators come from the OS: chance alone goes beyond it once in 70,000 runs
    assert play(repeated)["advantage"] == 1.0


def test_a_difference_of_the_mean_alone_is_found():
    noise = np.random.default_rng(4)
    bright = most_different(prior())[0]

    def shifted(images):
        top = np.array([230 if np.array_equal(image, bright) else 256 for image in images])
        return held(ciphertexts=(noise.random((len(images), 4, 64)) * top[:, None, None]).astype(np.uint8))

    assert play(shifted)["advantage_low"] > 0.8


def test_shuffled_places_leave_the_statistics():
    noise = np.random.default_rng(5)
    pictures = np.stack([np.zeros((PX, PX), np.uint8), np.tile(np.arange(PX, dtype=np.uint8), (PX, 1))])
    target = Target(
        "shuffled",
        1,
        PX,
        PX,
        prior=pictures,
        encrypt=lambda images: held(picture=np.stack([noise.permutation(image.ravel()).reshape(PX, PX) for image in images])),
    )
    found = Distinguisher(num_trials=60).examine(target, Truth(pictures), np.random.default_rng(0)).metrics
    assert found["advantage"] == 1.0


def test_the_view_is_another_game_than_the_artifact():
    noise = np.random.default_rng(6)

    def encrypt(images):
        return held(ciphertexts=noise.integers(0, 256, (len(images), 3, 96), dtype=np.uint8))

    def reveal(images):
        return images[..., None].astype(np.int16)

    in_the_clear = play(lambda images: pytest.fail("encrypted"), DistinguisherView(num_trials=200), reveal=reveal)
    assert in_the_clear["advantage"] == 1.0
    assert play(encrypt, reveal=reveal)["advantage_low"] < 0


def test_without_a_view_nothing_is_encrypted():
    with pytest.raises(AttackDoesNotApply, match="nothing was revealed"):
        play(lambda images: pytest.fail("encrypted"), DistinguisherView(num_trials=200))


def test_one_call_encrypts_all_trials_of_two_images():
    seen = []
    play(lambda images: seen.append(images.copy()) or held(symbols=Symbols(images, 256, None)))
    assert len(seen) == 1 and seen[0].shape == (200, PX, PX) and len(np.unique(seen[0].reshape(200, -1), axis=0)) == 2


def test_every_classifier_answers_with_bits():
    rng = np.random.default_rng(7)
    known, unknown, bits = rng.integers(0, 256, (20, 50), dtype=np.uint8), rng.integers(0, 256, (7, 50), dtype=np.uint8), np.arange(20) % 2
    for guess in CLASSIFIERS.values():
        answer = guess(known, bits, unknown)
        assert answer.shape == (7,) and set(answer) <= {0, 1}


def test_interval_is_clopper_pearson():
    np.testing.assert_allclose(advantage_interval(10, 10), (2 * 0.025 ** (1 / 10) - 1, 1.0))
    np.testing.assert_allclose(advantage_interval(5, 10), (2 * 0.1871 - 1, 2 * 0.8129 - 1), atol=2e-4)  # any table


def test_equal_public_images_cannot_be_used():
    with pytest.raises(AttackDoesNotApply, match="differ"):
        most_different(np.zeros((3, 4, 4), np.uint8))


def test_too_few_trials_are_refused():
    with pytest.raises(ConfigError, match="num_trials"):
        construct(Distinguisher, {"num_trials": 5}, "attack")
