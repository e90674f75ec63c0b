"""Client and server together: what is decrypted is what the integer head says, and a server that errs is noticed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from ppdl.config.components import construct
from ppdl.crypto.arithmetic.numbers import from_array
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.errors import ConfigError, CryptoError
from ppdl.private_head.client import PrivateClient
from ppdl.private_head.evaluator import HeadEvaluator
from ppdl.private_head.inference import NUM_SINGLE, Inference, Traffic
from tests.private_head.conftest import VALIDATION, toy_features

KEY = generate_keypair(512, purpose=INFERENCE, allow_insecure_key=True)
FEATURES = toy_features()[0][VALIDATION]


@pytest.fixture
def client(fitted) -> PrivateClient:
    return PrivateClient(KEY, HeadEvaluator(fitted.head).packing(512), table_bytes=2**20)


@pytest.mark.parametrize("obfuscator", ["djn", "standard"])
def test_one_image_and_a_batch_are_answered_alike(fitted, obfuscator):
    evaluator, features = HeadEvaluator(fitted.head), fitted.head.quantise(FEATURES)[:5]
    client = PrivateClient(KEY, evaluator.packing(512), obfuscator, table_bytes=2**20)
    alone = [client.answer(evaluator.evaluate(KEY.public, client.request(row))) for row in features]
    together = client.answer_batch(evaluator.evaluate_batch(KEY.public, client.request_batch(features), 5), 5)
    assert np.array_equal(alone, together) and np.array_equal(together, fitted.head.logits(features))


def test_every_image_is_classified_as_by_the_integer_head(fitted):
    features = fitted.head.quantise(FEATURES)
    answers = Inference(mask_bits=40).run(fitted.head, features, KEY)
    assert np.array_equal(answers.logits, fitted.head.logits(features))
    packing = HeadEvaluator(fitted.head).batch_packing(512)
    batches, size = -(-len(features) // packing.capacity), KEY.public.ciphertext_bytes
    assert batches > 1 and answers.batched.num_images == len(features) and answers.single.num_images == NUM_SINGLE
    assert answers.cost["bytes"] == batches * size * (fitted.head.num_features + fitted.head.num_classes)
    assert answers.cost["single_up_bytes"] == size * HeadEvaluator(fitted.head).packing(512).num_ciphertexts
    assert {f"{way}_{name}" for way in ("batch", "single") for name in Traffic(1).each()} <= answers.cost.keys()


@pytest.mark.parametrize(("way", "where"), [("evaluate_batch", "in batches"), ("evaluate", "one by one")])
def test_a_wrong_logit_is_an_error(fitted, monkeypatch, way, where):
    right = getattr(HeadEvaluator, way)

    def wrong(self, public_key, *request, **more):
        answer = right(self, public_key, *request, **more)
        return answer[[1, 0, *range(2, len(answer))]]

    monkeypatch.setattr(HeadEvaluator, way, wrong)
    with pytest.raises(CryptoError, match=f"image 0: the logits decrypted {where} are not those of the integer head"):
        Inference(mask_bits=40).run(fitted.head, fitted.head.quantise(FEATURES), KEY)


def test_nothing_is_decrypted_before_everything_was_asked(fitted, monkeypatch):
    events = []

    def note(cls, way):
        right = getattr(cls, way)

        def noted(*arguments, **more):
            events.append(cls.__name__)
            return right(*arguments, **more)

        monkeypatch.setattr(cls, way, noted)

    for way in ("evaluate", "evaluate_batch"):
        note(HeadEvaluator, way)
    for way in ("answer", "answer_batch"):
        note(PrivateClient, way)
    Inference(mask_bits=40).run(fitted.head, fitted.head.quantise(FEATURES), KEY)
    asked = len(events) // 2
    assert asked > 3 and events == ["HeadEvaluator"] * asked + ["PrivateClient"] * asked


def test_no_images_need_no_answers(fitted):
    answers = Inference(mask_bits=40).run(fitted.head, fitted.head.quantise(FEATURES[:0]), KEY)
    assert answers.logits.shape == (0, 3) and answers.cost == {"bytes": 0, "num_images": 0}


def test_equal_features_are_sent_as_different_ciphertexts(fitted, client):
    features = fitted.head.quantise(FEATURES)[0]
    sent = [from_array(KEY.public, client.request(features)) for _ in range(2)]
    assert len({c for numbers in sent for c in numbers}) == 2 * client.packing.num_ciphertexts


def test_a_client_is_not_printed_or_pickled_with_its_key(client):
    client.prepare()
    assert str(KEY.p) not in repr(client) and "PrivateKey" not in repr(client)
    with pytest.raises(TypeError, match="private key material"):
        pickle.dumps(client)


def test_the_plan_of_a_key_length_is_made_once(fitted, monkeypatch):
    built = []
    build = HeadEvaluator._build_single
    monkeypatch.setattr(HeadEvaluator, "_build_single", lambda self, bits: built.append(bits) or build(self, bits))
    evaluator = HeadEvaluator(fitted.head)
    client = PrivateClient(KEY, evaluator.packing(512), table_bytes=2**20)
    for row in fitted.head.quantise(FEATURES)[:3]:
        evaluator.evaluate(KEY.public, client.request(row))
    assert built == [512]


def test_settings_that_break_a_rule_are_named():
    with pytest.raises(ConfigError, match="bits: must be >= 40"):
        construct(Inference, {"mask_bits": 39}, "inference")
