"""The model card: what it must say, and that it fits MLflow's table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ppdl.errors import TrackingError
from ppdl.tracking.query import StoredRun
from ppdl.tracking.registry.candidates import VALIDATION, Candidate
from ppdl.tracking.registry.card import model_card
from ppdl.tracking.registry.models import MAX_DESCRIPTION
from ppdl.tracking.runs.spec import NOTE

RUN = StoredRun(
    run_id="0123abcd",
    name="deterministic",
    status="FINISHED",
    seconds=60.0,
    params={"model.alpha": "0.35", "training.epochs": "32", "seed": "7", "dataset.seed": "8", "training._target_": "x"},
    metrics={
        VALIDATION: 0.25,
        "test/accuracy": 0.912,
        "test/accuracy_low": 0.881,
        "test/accuracy_high": 0.94,
        "test/auroc": 0.98,
        "test/border_accuracy": 0.63,
        "test/chance_accuracy": 0.5,
    },
    tags={
        "protection": "deterministic",
        NOTE: "**Utility:** accuracy\n\n**Leakage, best attacker:** SSIM 1.00 by ratio; everything. It leaks.\n\nTrained on ciphertexts.",
        "git.commit": "c0ffee",
        "git.dirty": "true",
        "ppdl.version": "0.1.0",
        "data_sha256": "cd" * 32,
    },
    dataset="radiography, 3615 images",
)
CANDIDATE = Candidate(
    run=RUN,
    model_id="m-1",
    metadata={
        "class_names": ["COVID", "Normal"],
        "protection": "deterministic",
        "view": "spectral",
        "key_fingerprint": "ab" * 32,
        "prepared_px": 128,
        "input_px": 64,
    },
    config={},
    dataset={"name": "phantom", "profile": '{"num_train": 70, "num_test": 20}'},
)


def candidate(**changes):
    """Return a candidate whose run differs."""
    return replace(CANDIDATE, run=replace(RUN, **changes))


def test_it_says_what_a_reader_must_know():
    card = model_card(CANDIDATE)
    for text in (
        "Not a medical device",
        "COVID, Normal",
        "`phantom`: 70 train, 20 test images",
        "| accuracy | 0.912 [0.881, 0.940] |",
        "| AUROC | 0.980 |",
        "| control: a probe on the borders alone, accuracy | 0.630 |",
        "| control: chance, accuracy | 0.500 |",
        "SSIM 1.00 by ratio",
        "ab" * 32,
        "log loss on the validation images, 0.2500",
        "commit `c0ffee` with changes that were not committed",
        "`training.epochs=32`",
    ):
        assert text in card
    assert "dataset.seed" not in card and "_target_" not in card


def test_what_was_not_measured_is_not_claimed():
    card = model_card(candidate(metrics={VALIDATION: 0.25}, tags={"protection": "x", "data_sha256": "cd" * 32}))
    assert "Not evaluated on the test images yet" in card
    assert "Not attacked yet" in card
    assert "| accuracy" not in card


def test_a_long_configuration_is_cut_to_what_the_table_holds():
    many = {f"training.value{number}": "x" * 40 for number in range(200)}
    card = model_card(candidate(params=many))
    assert len(card) == MAX_DESCRIPTION
    assert "Not a medical device" in card and "commit `c0ffee`" in card


def test_key_material_stops_it():
    with pytest.raises(TrackingError, match="looks like key material"):
        model_card(candidate(params={"model.weights": "A" * 200}))
