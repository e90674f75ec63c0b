"""Verdicts follow from figures, never from names."""

import pytest
from scipy.stats import binom

from ppdl.audit.examination.verdict import (
    ADVANTAGE,
    BROKEN,
    LEAKY,
    POWER,
    UNBROKEN,
    advantage_interval,
    judge,
    smallest_effects,
    top1_interval,
)

BLIND = {"surface": "artifact", "needs": ["prior"], "knowledge": "nothing", "psnr": 14.0, "ssim": 0.3}


def found(surface="artifact", **metrics):
    return {"surface": surface, "needs": ["symbols"], "knowledge": "the ciphertexts alone"} | metrics


def test_rebuilt_images_break_it_and_the_sentence_says_how_well_and_from_what():
    verdict = judge({"blind": BLIND, "x": found(psnr=37.2, ssim=0.98), "y": found(psnr=20.0, ssim=0.6)})
    assert (verdict.level, verdict.best_attack, verdict.best_ssim) == (BROKEN, "x", 0.98)
    assert "37 dB (SSIM 0.98) by x from the ciphertexts alone" in verdict.sentence


def test_the_sentence_names_the_attack_that_needs_least():
    verdict = judge({"strong": found(psnr=90.0, ssim=1.0, needs=["ciphertexts", "public_key"]), "weak": found(psnr=30.0, ssim=0.9)})
    assert (verdict.best_attack, verdict.best_ssim) == ("strong", 1.0)
    assert "30 dB (SSIM 0.90) by weak" in verdict.sentence and "strong" not in verdict.sentence
    near = judge({"strong": found(psnr=90.0, ssim=1.0, needs=["ciphertexts", "public_key"]), "weak": found(psnr=50.0, ssim=0.997)})
    assert (near.best_attack, near.best_ssim) == ("weak", 1.0) and "by weak" in near.sentence
    known = {"given": found(psnr=90.0, ssim=1.0, needs=["known"]), "weak": found(psnr=30.0, ssim=0.9, needs=["prior", "symbols"])}
    assert "by weak" in judge(known).sentence
    key = {"keyed": found(psnr=90.0, ssim=1.0, needs=["public_key"]), "weak": known["weak"]}
    assert "by weak" in judge(key).sentence


def test_what_is_near_a_blind_guess_is_no_success():
    verdict = judge({"blind": BLIND, "x": found(psnr=15.0, ssim=0.39)})
    assert verdict.level == UNBROKEN and "no proof" in verdict.sentence
    assert judge({"blind": BLIND, "x": found(psnr=15.0, ssim=0.41)}).level == LEAKY


def test_without_rebuilt_images_the_blind_guess_is_the_best():
    verdict = judge({"blind": BLIND})
    assert (verdict.level, verdict.best_attack, verdict.best_ssim) == (UNBROKEN, "blind", 0.3)
    assert judge({}).best_attack is None


@pytest.mark.parametrize(
    ("metrics", "level", "words"),
    [
        ({"advantage": 1.0, "advantage_low": 0.95, "advantage_high": 1.0}, LEAKY, "told apart (advantage 1.00)"),
        ({"advantage": 0.1, "advantage_low": -0.1, "advantage_high": 0.3}, UNBROKEN, "No attack"),
        ({"leak": "obfuscators occur again"}, LEAKY, "Not confidential: obfuscators occur again"),
        ({"leak": None}, UNBROKEN, "No attack"),
        ({"top1": 0.8, "top1_low": 0.7, "chance_top1": 0.01}, LEAKY, "80%"),
        ({"top1": 0.03, "top1_low": 0.01, "chance_top1": 0.01}, UNBROKEN, "No attack"),
    ],
)
def test_figures_without_pictures_count_by_the_end_of_their_interval(metrics, level, words):
    verdict = judge({"blind": BLIND, "x": found(**metrics)})
    assert verdict.level == level and words in verdict.sentence


def test_a_view_in_the_clear_is_leaky_and_the_ciphertexts_are_judged_apart():
    verdict = judge({"blind": BLIND, "x": found("view", psnr=30.0, ssim=0.93)})
    assert verdict.level == LEAKY and verdict.best_attack == "x"
    assert "got anything out of the ciphertexts" in verdict.sentence and "images themselves" in verdict.sentence
    weak = judge({"blind": BLIND, "x": found("view", psnr=20.0, ssim=0.5), "z": found("view", top1=0.9, top1_low=0.8, chance_top1=0.01)})
    assert weak.level == LEAKY and "images themselves" not in weak.sentence and "90%" in weak.sentence


def test_a_view_that_shows_nothing_is_said_to():
    verdict = judge({"blind": BLIND, "x": found("view", psnr=14.0, ssim=0.31)})
    assert verdict.level == UNBROKEN and "Nor did any" in verdict.sentence


def test_a_name_changes_nothing():
    results = {"blind": BLIND, "opaque": found(psnr=37.2, ssim=0.98)}
    assert judge(results).level == judge({"blind": BLIND, "deterministic": results["opaque"]}).level == BROKEN


def test_48_guesses_see_no_advantage_below_0_42():
    """34 of 48 is the first number of hits whose exact interval lies above 0.1."""
    assert advantage_interval(33, 48)[0] <= ADVANTAGE < advantage_interval(34, 48)[0]
    effects = smallest_effects({"advantage": 0.0, "num_guessed": 48})
    assert effects["advantage_least"] == pytest.approx(2 * 34 / 48 - 1)
    assert binom.sf(33, 48, (1 + effects["advantage_found"]) / 2) == pytest.approx(POWER)


def test_the_smallest_top1_rate_is_found_as_often_as_said():
    effects = smallest_effects({"top1": 0.0, "num_queries": 100, "chance_top1": 0.02})
    least = round(100 * effects["top1_least"])
    assert top1_interval(least - 1, 100)[0] <= 0.04 < top1_interval(least, 100)[0]
    assert binom.sf(least - 1, 100, effects["top1_found"]) == pytest.approx(POWER)


def test_too_few_trials_never_count():
    effects = smallest_effects({"top1": 1.0, "num_queries": 2, "chance_top1": 0.3})
    assert effects["top1_least"] > 1 and effects["top1_found"] > 1
    assert "nothing by x, whose trials are too few" in judge({"x": found(top1=1.0, top1_low=0.3, chance_top1=0.3, **effects)}).sentence


def test_attacks_without_trials_have_no_smallest_effect():
    assert smallest_effects({"shared_obfuscators": 0.0}) == smallest_effects({"ssim": 0.1, "psnr": 9.0}) == {}


def test_nothing_found_stands_beside_what_would_have_been():
    tried = {"advantage": 0.1, "advantage_low": -0.2, "num_guessed": 48}
    verdict = judge({"blind": BLIND, "x": found(**tried, **smallest_effects(tried)), "y": found(psnr=14.0, ssim=0.31)})
    assert verdict.level == UNBROKEN
    assert "would have been found, 80% of the time: an advantage of 0.50 (seen from 0.42) by x; an SSIM 0.1 above" in verdict.sentence


def test_a_terminal_reads_the_level_that_the_sentence_is_the_reason_of():
    assert judge({"x": found(psnr=37.2, ssim=0.98)}).said_of("toy").startswith("toy is broken: Not confidential: images rebuilt at 37 dB")
    assert judge({"blind": BLIND}).said_of("toy").startswith("toy is unbroken: No attack here")
