"""Classes that ciphertexts tell, and those that they do not."""

from dataclasses import replace

import numpy as np
import pytest

from ppdl.audit.attacks.class_leak import ClassLeak
from ppdl.audit.examination.base import Truth
from ppdl.audit.examination.chance import FALSE_ALARM
from ppdl.audit.folder.pictures import to_picture
from ppdl.errors import AttackDoesNotApply
from tests.audit.schemes import SCHEMES, films, target

NUM, PX = 200, 32
LABELS = np.arange(NUM) % 4


def examined(picture: np.ndarray, labels: np.ndarray = LABELS, seed: int = 0) -> dict:
    with_labels = replace(target(to_picture(picture), None), labels=labels)
    return ClassLeak(num_images=1000).examine(with_labels, Truth(picture), np.random.default_rng(seed)).metrics


@pytest.mark.parametrize("name", ["xor_one_pad", "permuted", "learnable", "dct_signs"])
def test_a_fixed_key_leaves_the_class(name):
    found = examined(SCHEMES[name].protect(films(1, NUM, PX), np.random.default_rng(5)))
    assert found["p_value"] < FALSE_ALARM / 12
    assert found["class_accuracy"] > found["chance_class_accuracy"] + 0.15
    assert found["leak"].startswith("the class is told from the ciphertexts (")


def test_exposure_that_goes_with_the_class_is_told_by_the_histogram():
    """Pixels are in another order in each image."""
    images = films(1, NUM, PX) // 2 + (LABELS * 20)[:, None, None].astype(np.uint8)
    found = examined(SCHEMES["permuted_fresh"].protect(images, np.random.default_rng(5)))
    assert found["probe"] == "histogram" and found["leak"] is not None


@pytest.mark.parametrize("name", ["noise", "aes_ctr_fresh", "xor_fresh"])
def test_a_sound_cipher_tells_no_class(name):
    found = examined(SCHEMES[name].protect(films(1, NUM, PX), np.random.default_rng(5)))
    assert found["leak"] is None and found["p_value"] > 1e-4
    assert found["unseen"].startswith("a class of which ")


def test_labels_that_have_nothing_to_do_with_images_are_not_told():
    """P-values of such labels are uniform or above it: of 30, the least of twelve each, few are small."""
    images, rng = films(1, NUM, PX), np.random.default_rng(3)
    p_values = [examined(images, rng.permutation(LABELS), seed)["p_value"] for seed in range(30)]
    assert (np.array(p_values) < 0.01).sum() <= 11  # binomial, at most 12 % each: more than 11 once in 10,000
    assert min(p_values) > 1e-5


def test_one_class_is_no_question():
    for labels in (np.zeros(NUM, int), np.arange(NUM)):
        with pytest.raises(AttackDoesNotApply, match="fewer than two classes have several images"):
            examined(films(1, NUM, PX), labels)


@pytest.mark.parametrize(("num", "applies"), [(40, False), (48, False), (64, True)])
def test_so_few_images_that_chance_tells_all_are_no_question(num, applies):
    """Of 20 images in two classes of 10 a guess is right on all once in 184,756 times, and six such tests are made."""
    images = films(1, num, PX).copy()  # which other tests share
    images[::2] //= 4
    if applies:
        assert examined(images, np.arange(num) % 2)["leak"] is not None
    else:
        with pytest.raises(AttackDoesNotApply, match=f"{num} images with a class are too few: even all classes told right could be chance"):
            examined(images, np.arange(num) % 2)


def test_the_test_is_that_of_an_urn():
    from math import comb

    from ppdl.audit.examination.chance import p_value_of_matches, p_value_of_overlap

    assert p_value_of_overlap(3, 4, 5, 20) == pytest.approx(sum(comb(5, k) * comb(15, 4 - k) for k in (3, 4)) / comb(20, 4))
    assert p_value_of_overlap(0, 4, 5, 20) == 1
    assert [p_value_of_matches(k, 3) * 6 for k in range(4)] == pytest.approx([6, 4, 1, 1])  # 6 permutations: 2 without a fixed point
