"""Requests that no client sends: generated from the OpenAPI description, and by damaging queries. Never a 500, never a wrong charge."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ppdl.crypto.arithmetic.obfuscators import build_obfuscators
from ppdl.crypto.arithmetic.paillier import encrypt_batch
from ppdl.serving.client.connection import Conversation
from ppdl.serving.client.remote import connect
from ppdl.serving.problems import RULES
from ppdl.serving.protocol import BATCH, QUERY_HEADER_BYTES, SINGLE, Query
from ppdl.serving.registration import registration
from ppdl.serving.server.store import State
from ppdl.serving.server.tokens import add_token
from ppdl.serving.statement import Statement
from tests.serving.running import RunningServer, key_of, make_features, make_head, make_query, used

BINARY, JSON = {"content-type": "application/octet-stream"}, {"content-type": "application/json"}


def test_the_description_is_kept(tmp_path):
    """Schemathesis: what the description rules out is refused, and every answer is one that it names. Tokens are asked for."""
    token = add_token(tmp_path / "tokens", "tester")
    with RunningServer(tmp_path, make_head(), "--token-file", str(tmp_path / "tokens"), "--max-keys", "1000") as running:
        command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{running.url}/openapi.json"]
        options = ["--max-examples", "20", "--seed", "1", "--no-color", "--header", f"Authorization: Bearer {token}"]
        # A schema cannot say that n is a product of two primes, or that bytes are a query: what it allows may be refused, by name.
        options += ["--exclude-checks", "positive_data_acceptance"]
        found = subprocess.run(command + options, capture_output=True, text=True, timeout=200, cwd=tmp_path)
        assert found.returncode == 0, found.stdout[-4000:]
        assert "5 selected / 5 total" in found.stdout
        generated = int(re.search(r"(\d+) generated, (\d+) passed", found.stdout)[1])
        assert generated > 50
        lines = [line for line in running.log() if line["event"] == "request"]
    assert len(lines) > generated
    assert {line["route"] for line in lines} >= {"/v1/head", "/v1/keys", "/v1/infer", "/health", "/metrics"}
    assert {line["status"] for line in lines} >= {200, 400, 401, 405, 415}
    assert not [line for line in lines if line["status"] >= 500]


@pytest.fixture(scope="module")
def whole(running) -> dict[int, bytes]:
    """Good queries of both modes, under a registered key."""
    requests.post(running.url + "/v1/keys", data=registration(key_of(4)), headers=JSON, timeout=10)
    statement = Statement.from_json(requests.get(running.url + "/v1/head", timeout=10).json())
    return {mode: make_query(statement, key_of(4), make_features(mode), mode).encode() for mode in (SINGLE, BATCH)}


def damage(data: st.DataObject, body: bytes) -> bytes:
    """Cut, repeat, insert or overwrite bytes; half of the places are in the header."""
    body = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        end = data.draw(st.sampled_from([QUERY_HEADER_BYTES, len(body)]))
        place = data.draw(st.integers(0, min(end, len(body))))
        action = data.draw(st.sampled_from(["flip", "cut", "insert", "overwrite", "truncate"]))
        if action == "flip" and place < len(body):
            body[place] ^= 1 << data.draw(st.integers(0, 7))
        elif action == "cut":
            del body[place : place + data.draw(st.integers(1, 200))]
        elif action == "truncate":
            del body[place:]
        else:
            piece = data.draw(st.binary(min_size=1, max_size=64) | st.sampled_from([b"\0" * 128, b"\xff" * 128]))
            body[place : place + len(piece) * (action == "overwrite")] = piece
    return bytes(body)


@pytest.mark.parametrize("mode", [SINGLE, BATCH])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_query_is_refused_by_name_or_is_another_query(running, whole, mode, data):
    body = damage(data, whole[mode])
    response = requests.post(running.url + "/v1/infer", data=body, headers=BINARY, timeout=30)
    if response.status_code == 200:
        assert Query.decode(body).ciphertexts.shape[0] in (16, 64)
        return
    name = response.json()["type"].rpartition(":")[2]
    assert RULES[name].status == response.status_code
    assert 400 <= response.status_code < 500


def test_a_malicious_client_reads_two_weights_of_each_class_in_a_query(running):
    """What docs/protocol.md says that the query budget is for: 1 + num_features / 2 queries with numbers that are no features."""
    head, key = make_head(), key_of(5)
    with Conversation(running.url) as server:
        remote = connect(server, key, num_images=1)
        packing, source = remote.client.packing, build_obfuscators(key, table_bytes=4 << 20)

        def ask(numbers: dict[int, int]) -> np.ndarray:
            plaintexts = [0] * packing.num_ciphertexts
            for feature, number in numbers.items():
                place, slot = divmod(feature, packing.features_per_ciphertext)
                plaintexts[place] += number << (packing.slot_bits * slot)
            query = remote.query(make_features(1), SINGLE)
            reply = server.infer(replace(query, ciphertexts=encrypt_batch(key.public, plaintexts, source)), num_classes=3)
            return remote.client.answer(reply.ciphertexts)

        bias = ask({})
        sums = np.stack([ask({i: 1, i + 1: 256}) - bias for i in range(0, packing.num_features, 2)], axis=1)
    low = (sums + 128) % 256 - 128
    found = np.stack([low, (sums - low) // 256], axis=2).reshape(3, -1)
    assert np.array_equal(found, head.weights) and np.array_equal(bias, head.bias)


def test_nothing_failed_and_only_answers_were_charged(running):
    """Runs last in this file: what the hostile requests left behind."""
    lines = running.log()
    assert not [line for line in lines if line["event"] == "failed" or line.get("status", 200) >= 500]
    mine = key_of(4).public.fingerprint
    answered = [line for line in lines if line.get("key") == mine[:16] and line["route"] == "/v1/infer" and line["status"] == 200]
    store = State(running.state)
    assert used(store, bytes.fromhex(mine)) == sum(line["num_images"] for line in answered if line["new"])
    store.close()
