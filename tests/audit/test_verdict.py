"""Verdicts follow from figures, never from names."""

import pytest

from ppdl.audit.verdict import BROKEN, LEAKY, UNBROKEN, judge

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
        ({"shared_obfuscators": 0.001}, LEAKY, "0.1% of the obfuscators occur again"),
        ({"shared_obfuscators": 0.0}, UNBROKEN, "No attack"),
        ({"differences_with_others": {"x": 12}}, LEAKY, "12 obfuscators"),
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
