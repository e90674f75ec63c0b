"""The benchmark runs on a small head; how fast it is depends on the machine and is no test."""

import json
import sys

import numpy as np
import pytest

from benchmarks import private_head, private_head_rivals
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.private_head.evaluator import HeadEvaluator

KEY = generate_keypair(512, purpose=INFERENCE, allow_insecure_key=True)


def test_figures_are_those_of_json(monkeypatch, capsys):
    arguments = ["--bits", "512", "--features", "20", "--repeats", "1", "--phe-features", "5", "--json"]
    monkeypatch.setattr(sys, "argv", ["private_head", *arguments])
    private_head.main()
    (found,) = json.loads(capsys.readouterr().out)["by_bits"]
    assert found.keys() >= private_head.TARGETS.keys()
    assert found["single"]["up_kb"] == found["num_ciphertexts"] * 128 / 1e3 and found["batch"]["up_kb"] == 20 * 128 / 1e3
    private_head.show(found, None)
    assert "512 bits: 3 classes" in capsys.readouterr().out


def test_wrong_results_are_not_timed(monkeypatch):
    head = private_head.random_head(20)
    right = HeadEvaluator.evaluate
    monkeypatch.setattr(HeadEvaluator, "evaluate", lambda self, *request: right(self, *request)[::-1])
    with pytest.raises(AssertionError, match="not those of the integer head"):
        private_head.measure(KEY, head, 1, 5, None)


def test_phe_is_scaled_up_from_the_features_that_it_ran_on(monkeypatch):
    def one_millisecond(function):
        function()
        return 1.0

    monkeypatch.setattr(private_head_rivals, "_core_ms", one_millisecond)
    head = private_head.random_head(20)
    found = private_head.measure_phe(KEY, head, private_head.random_features(head, 1)[0], 5)
    assert found == {"encrypt_ms": 4.0, "evaluate_ms": 4.0, "decrypt_ms": 1.0}


def test_the_random_head_has_weights_to_work_with():
    head = private_head.random_head(private_head.NUM_FEATURES)
    assert np.abs(head.weights.astype(int)).max() > 60 and (head.weights != 0).mean() > 0.9
