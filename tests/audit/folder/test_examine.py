"""What an audit of a folder says of patients that are found, and of what takes images in the clear."""

import numpy as np
import pytest

from ppdl.audit.attacks.as_is import AsIs
from ppdl.audit.attacks.blind import Blind
from ppdl.audit.attacks.keystream import Keystream
from ppdl.audit.attacks.keystream_known import KeystreamKnown
from ppdl.audit.attacks.linkage import Linkage
from ppdl.audit.examination.verdict import MARGIN
from ppdl.audit.folder.examine import audit_folder, meaning
from ppdl.audit.folder.pictures import target_of_pictures
from tests.audit import schemes

XORS = "(XORs of ciphertexts coincide in "


@pytest.mark.parametrize(("count", "clear", "level"), [(40, True, "leaky"), (40, False, "unbroken"), (4, True, "unbroken")])
def test_patients_that_are_found_count_where_chance_would_not_find_as_many(count, clear, level):
    images = schemes.films(1, count, 32)
    pictures = images if clear else schemes.noise(images, np.random.default_rng(0))
    result = audit_folder({"linkage": Linkage()}, target_of_pictures("set", pictures, schemes.films(9, 60, 32)), images, seed=0)
    row = result.results["linkage"]
    assert result.level == level
    assert (row["top1"] >= row["top1_least"]) == (level == "leaky")
    assert meaning(row).startswith("no success") == (level == "unbroken")


@pytest.fixture(scope="module", params=["negatives", "upside down"])
def one_pad(request):
    """Return audits of 20 films under one pad, without originals and with; public images are unlike them, so keystream's SSIM is low."""
    images, prior = schemes.films(1, 20, 32), schemes.films(9, 60, 32)
    images = 255 - images if request.param == "negatives" else images[:, ::-1]
    pad = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    attacks = {"blind": Blind(20), "keystream": Keystream(40, 20), "keystream_known": KeystreamKnown((10,), 20)}
    target = target_of_pictures("set", images ^ pad, prior)
    return [audit_folder(attacks, target, originals, seed=0) for originals in (None, images)]


def nearer_than_a_blind_guess(results):
    return results["keystream"]["ssim"] > results["blind"]["ssim"] + MARGIN


def test_what_takes_no_image_in_the_clear_is_said_first_and_in_full_beside_what_takes_some(one_pad):
    alone, known = one_pad
    assert known.level == "broken" and XORS in alone.sentence
    assert known.sentence.startswith(alone.sentence)
    said = known.sentence.removeprefix(alone.sentence)
    assert "No image in the clear was needed for that; with some, images rebuilt at 100 dB (SSIM 1.00) by keystream_known" in said
    assert ("Beside the originals, images rebuilt at 12 dB" in said) == nearer_than_a_blind_guess(known.results)


def test_an_attack_is_said_to_find_the_same_with_originals_as_without(one_pad):
    alone, known = (audit.results["keystream"] for audit in one_pad)
    assert known["found"] and known["ssim"] < 0.6
    assert meaning(known) == f"{meaning(alone)} (structure {alone['structure']:.2f})"
    assert (known["structure"], known["rebuilt"]) == (alone["structure"], alone["rebuilt"])


def test_who_rebuilds_the_originals_without_any_is_all_that_is_said():
    images, prior = schemes.films(1, 20, 32), schemes.films(9, 60, 32)
    noisy = np.clip(images + np.random.default_rng(0).normal(0, 24, images.shape), 0, 255).astype(np.uint8)
    found = audit_folder({"blind": Blind(20), "as_is": AsIs(20, 3)}, target_of_pictures("set", noisy, prior), images, seed=0)
    assert found.level == "broken" and found.results["as_is"]["found"]
    assert found.sentence == "Not confidential: images rebuilt at 23 dB (SSIM 0.84) by as_is from the protected images as pictures."
