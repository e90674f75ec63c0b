"""A network that learns from known images what ciphertexts are."""

import numpy as np
import pytest

from ppdl.audit.attacks.learned import Learned
from ppdl.audit.examination.base import Truth
from ppdl.audit.examination.chance import FALSE_ALARM
from ppdl.errors import AttackDoesNotApply
from tests.audit.schemes import SCHEMES, films, target, with_known

NUM, PX = 60, 32


def examined(name: str, num_known: int = 20):
    images = films(1, NUM, PX)
    found = target(SCHEMES[name].protect(images, np.random.default_rng(5)), None)
    known = np.random.default_rng(4).permutation(NUM)[:num_known]
    return Learned(max_epochs=40, num_scored=20).examine(with_known(found, images, known), Truth(images), np.random.default_rng(0))


def test_what_is_kept_in_place_is_learned():
    found = examined("noisy_32")
    assert found.metrics["num_matched"] == found.metrics["num_held_out"] == 10 and found.metrics["p_value"] <= FALSE_ALARM
    assert found.metrics["ssim"] > 0.6 and found.rebuilt.images.shape == (20, PX, PX)
    assert found.metrics["leak"] == "a network that learned from 10 known images tells 10 others by their ciphertexts"


@pytest.mark.parametrize("name", ["noise", "aes_cbc_fresh"])
def test_nothing_is_learned_from_a_sound_cipher(name):
    found = examined(name)
    assert found.metrics["leak"] is None and found.rebuilt is None and "ssim" not in found.metrics
    assert found.metrics["num_matched"] <= 5
    assert found.metrics["unseen"] == "10 of 10 images matched with what was rebuilt of them (chance 1)"


def test_too_few_known_images_can_prove_nothing():
    with pytest.raises(AttackDoesNotApply, match="of 18 known images 9 can be matched, by chance with probability 3e-06"):
        examined("noisy_32", 18)
