"""Training a head: what is chosen on which images, and what rounding costs."""

from __future__ import annotations

import numpy as np
import pytest

from ppdl.config.components import construct
from ppdl.errors import ConfigError, DataError
from ppdl.private_head.fit import HeadFit, fit_head
from tests.private_head.conftest import CLASS_NAMES, NUM_IMAGES, TRAIN, VALIDATION, toy_features

FEATURES, LABELS = toy_features()


def fit(features=FEATURES, labels=LABELS, strengths=(1.0,), class_names=CLASS_NAMES, train=TRAIN, validation=VALIDATION):
    return fit_head(features, labels, train, validation, settings=HeadFit(strengths), class_names=class_names, backbone={})


def test_rounding_to_8_bits_costs_next_to_nothing_and_chance_is_far(fitted):
    assert fitted.summary["val_accuracy_unrounded"] > 0.9
    assert abs(fitted.summary["val_accuracy"] - fitted.summary["val_accuracy_unrounded"]) <= 0.02
    assert fitted.summary["val_log_loss"] == pytest.approx(fitted.summary["val_log_loss_unrounded"], rel=0.05)
    assert np.abs(fitted.head.weights.astype(int)).max() == 127


def test_the_summary_is_that_of_the_integer_head(fitted):
    logits = fitted.head.logits(fitted.head.quantise(FEATURES[VALIDATION]))
    assert fitted.summary["val_accuracy"] == (logits.argmax(1) == LABELS[VALIDATION]).mean()
    log_loss = -np.log(fitted.head.public.probabilities(logits)[np.arange(len(VALIDATION)), LABELS[VALIDATION]]).mean()
    assert fitted.summary["val_log_loss"] == pytest.approx(log_loss)


def test_no_image_beyond_training_and_validation_has_a_part(fitted):
    others = np.setdiff1d(np.arange(NUM_IMAGES), np.concatenate([TRAIN[:150], VALIDATION[:50]]))
    changed, labels = FEATURES.copy(), LABELS.copy()
    changed[others] = 9.0
    labels[others] = 0
    first = fit(train=TRAIN[:150], validation=VALIDATION[:50]).head
    second = fit(changed, labels, train=TRAIN[:150], validation=VALIDATION[:50]).head
    assert np.array_equal(first.weights, second.weights) and np.array_equal(first.bias, second.bias)
    assert first.public == second.public


def test_the_strength_is_chosen_on_the_validation_images():
    strengths = (1e-4, 1e-2, 1.0, 1e4)
    alone = {strength: fit(strengths=(strength,)).summary["val_log_loss_unrounded"] for strength in strengths}
    assert fit(strengths=strengths).summary["strength"] == min(alone, key=alone.get)


def test_two_classes_have_two_rows():
    labels = LABELS % 2
    found = fit(labels=labels, class_names=("no", "yes"))
    assert found.head.weights.shape[0] == 2 and np.abs(found.head.weights[0].astype(int) + found.head.weights[1]).max() <= 1
    assert found.summary["val_accuracy"] > 0.4


def test_a_few_huge_features_do_not_make_all_steps_coarse():
    features = np.tile(FEATURES, (50, 1))
    features[0, 0] = 1e6
    rows = np.arange(len(features))
    found = fit(features, np.tile(LABELS, 50), train=rows, validation=VALIDATION)
    assert found.head.feature_scale < 0.05


def test_features_that_say_nothing_give_a_head_that_says_nothing():
    constant = np.full_like(FEATURES, 0.5)
    head = fit(constant).head
    assert not head.weights.any() and np.ptp(head.logits(head.quantise(constant))) <= 1


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (-FEATURES, LABELS, "features must be finite and not negative"),
        (np.where(FEATURES > 1, np.inf, FEATURES), LABELS, "features must be finite"),
        (np.zeros_like(FEATURES), LABELS, "all features of the training images are zero"),
        (FEATURES, np.minimum(LABELS, 1), "no image of class Viral Pneumonia"),
    ],
)
def test_features_that_cannot_be_learned_from_are_refused(features, labels, message):
    with pytest.raises(DataError, match=message):
        fit(features, labels)


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ((), "strengths: Tuple must have at least 1 item"),
        ((1.0, 0), "strengths.1: must be > 0, got 0"),
        ((True,), "strengths.0: must be a number, got True"),
    ],
)
def test_settings_that_break_a_rule_are_named(strengths, message):
    with pytest.raises(ConfigError, match=message):
        construct(HeadFit, {"strengths": strengths}, "fit")
