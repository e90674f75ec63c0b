"""Bytes of queries and replies, the statement, and docs/protocol.md, which specifies both."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ppdl.cli.serve import serve
from ppdl.errors import DataError
from ppdl.serving.problems import RULES, ProblemError
from ppdl.serving.protocol import BATCH, QUERY_HEADER_BYTES, REPLY_HEADER_BYTES, SINGLE, Query, Reply
from ppdl.serving.statement import Statement
from tests.serving.running import make_head


def default_budget() -> int:
    """Return the budget that `ppdl serve` gives a key unless told otherwise."""
    return next(option.default for option in serve.params if option.name == "max_queries_per_key")


ROOT = Path(__file__).resolve().parents[2]


def query(num_ciphertexts=2, ciphertext_bytes=3, mode=SINGLE, num_images=1) -> Query:
    ciphertexts = np.arange(num_ciphertexts * ciphertext_bytes, dtype=np.uint8).reshape(num_ciphertexts, ciphertext_bytes)
    return Query(bytes(range(16)), b"\xf1" * 32, b"\x5a" * 32, mode, num_images, ciphertexts)


# Written by hand from docs/protocol.md, not by this package.
GOLDEN_QUERY = bytes.fromhex(
    "5050444c512f310a000102030405060708090a0b0c0d0e0f" + "f1" * 32 + "5a" * 32 + "00000001000000010000000200000003000102030405"
)
GOLDEN_REPLY = bytes.fromhex("5050444c522f310a" + "77" * 32 + "00000002000000050000000100000002abcd")


def test_the_golden_query_is_written_and_read():
    assert query().encode() == GOLDEN_QUERY
    found = Query.decode(GOLDEN_QUERY)
    assert (found.request_id, found.fingerprint, found.head_sha256) == (bytes(range(16)), b"\xf1" * 32, b"\x5a" * 32)
    assert (found.mode, found.num_images, found.ciphertexts.tolist()) == (SINGLE, 1, [[0, 1, 2], [3, 4, 5]])


def test_the_golden_reply_is_written_and_read():
    assert Reply(b"\x77" * 32, BATCH, 5, np.array([[0xAB, 0xCD]], np.uint8)).encode() == GOLDEN_REPLY
    found = Reply.decode(GOLDEN_REPLY)
    assert (found.query_sha256, found.mode, found.num_images, found.ciphertexts.tolist()) == (b"\x77" * 32, BATCH, 5, [[0xAB, 0xCD]])


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("not-a-query", b""),
        ("not-a-query", b"GET / HTTP/1.1"),
        ("not-a-query", GOLDEN_REPLY),
        ("not-a-query", GOLDEN_QUERY[1:]),
        ("wrong-version", GOLDEN_QUERY.replace(b"/1\n", b"/2\n", 1)),
        ("wrong-version", GOLDEN_QUERY[:7]),
        ("wrong-length", GOLDEN_QUERY[:8]),
        ("wrong-length", GOLDEN_QUERY[:-1]),
        ("wrong-length", GOLDEN_QUERY + b"\0"),
        ("wrong-length", query().encode()[: QUERY_HEADER_BYTES - 1]),
        ("malformed-header", query(mode=3).encode()),
        ("malformed-header", query(mode=0).encode()),
        ("malformed-header", query(num_images=0).encode()),
        ("malformed-header", query(num_images=2).encode()),
        ("malformed-header", query(num_ciphertexts=0).encode()),
        ("malformed-header", query(ciphertext_bytes=0).encode()),
    ],
)
def test_what_is_no_query_is_refused_by_name(name, body):
    with pytest.raises(ProblemError) as caught:
        Query.decode(body)
    assert caught.value.name == name


@given(st.data())
def test_bytes_that_are_read_are_those_that_would_be_written(data):
    """Nothing in a message is ignored: whatever is accepted is the encoding of what was read, so two bodies never mean the same."""
    body = bytearray(query(mode=BATCH, num_images=2).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(body) - 1))
        body[position] ^= 1 << data.draw(st.integers(0, 7))
    body = bytes(body[: data.draw(st.integers(0, len(body)))]) if data.draw(st.booleans()) else bytes(body)
    try:
        found = Query.decode(body)
    except ProblemError as problem:
        assert RULES[problem.name].status == 400
    else:
        assert found.encode() == body


@given(st.binary(max_size=200))
@example(GOLDEN_REPLY)
@example(GOLDEN_REPLY[:REPLY_HEADER_BYTES])
def test_a_reply_is_read_whole_or_refused(body):
    try:
        found = Reply.decode(body)
    except ProblemError:
        return
    assert found.encode() == body


def test_a_statement_survives_json(statement):
    found = Statement.from_json(json.loads(json.dumps(statement.to_json())))
    assert found == statement
    assert found.sha256 == statement.sha256


@pytest.mark.parametrize("field", ["num_features", "feature_scale", "logit_scale", "temperature", "class_names", "backbone"])
def test_the_digest_covers_every_field_of_the_head(statement, field):
    value = getattr(statement.head, field)
    other = {"a": 1} if field == "backbone" else (*value, "x") if field == "class_names" else value * 2
    assert replace(statement, head=replace(statement.head, **{field: other})).sha256 != statement.sha256


def test_the_digest_covers_the_mask_and_not_the_limits(statement):
    assert replace(statement, mask_bits=41).sha256 != statement.sha256
    assert replace(statement, budget=1, key_bits=(2048,)).sha256 == statement.sha256


def test_a_statement_holds_no_weight(statement):
    head, text = make_head(), json.dumps(statement.to_json())
    for row in (*head.weights.tolist(), head.bias.tolist()):
        assert json.dumps(row)[1:-1] not in text
    assert set(statement.to_json()["head"]) == {"num_features", "feature_scale", "logit_scale", "temperature", "class_names", "backbone"}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("protocol",), "PPDL private inference 2"),
        (("packing", "mask_bits"), 39),
        (("packing", "mask_bits"), 40.0),
        (("packing", "feature_bits"), 9),
        (("packing", "weight_bits"), True),
        (("key_bits",), []),
        (("key_bits",), ["2048"]),
        (("key_bits",), [32]),
        (("key_bits",), 2048),
        (("head", "num_features"), 10**9),
        (("head", "num_features"), -1),
        (("head", "class_names"), ["one"]),
        (("head", "class_names"), ["one", "two\x1b[2J"]),
        (("head", "class_names"), None),
        (("head", "temperature"), 0),
        (("head", "logit_scale"), "1"),
        (("head", "weights"), [1]),
        (("head", "backbone"), {"input_px": float("nan")}),
        (("head",), []),
        (("statement_sha256",), "00" * 32),
        (("statement_sha256",), "x"),
        (("max_queries_per_key",), None),
    ],
)
def test_a_statement_that_breaks_a_rule_is_refused(statement, place, value):
    tree = json.loads(json.dumps(statement.to_json()))
    *path, last = place
    node = tree
    for name in path:
        node = node[name]
    node[last] = value
    with pytest.raises(DataError):
        Statement.from_json(tree)


@pytest.mark.parametrize("tree", [None, [], "x", {}, {"protocol": None}])
def test_what_is_no_statement_is_refused(tree):
    with pytest.raises(DataError, match="must speak"):
        Statement.from_json(tree)


def test_the_document_lists_every_refusal_with_its_status():
    text = (ROOT / "docs/protocol.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", text, re.MULTILINE)
    assert {name: int(status) for status, name in rows} == {name: rule.status for name, rule in RULES.items()}
    assert len(rows) == len(RULES)


def test_the_document_gives_the_sizes_of_both_headers():
    text = (ROOT / "docs/protocol.md").read_text()
    assert f"{QUERY_HEADER_BYTES} bytes of header" in text
    assert f"{REPLY_HEADER_BYTES} bytes of header" in text


def test_the_document_gives_the_sizes_of_queries(statement):
    text = (ROOT / "docs/protocol.md").read_text()
    head = replace(statement.head, num_features=1280)
    for key_bits in (2048, 3072, 4096):
        stated = replace(statement, head=head, key_bits=(key_bits,))
        single, batch = stated.packing(key_bits), stated.batch_packing(key_bits)
        sizes = [QUERY_HEADER_BYTES + count * key_bits // 4 for count in (single.num_ciphertexts, batch.num_ciphertexts)]
        row = f"| {key_bits} | {single.num_ciphertexts}, {sizes[0]:,} | {batch.num_ciphertexts:,}, {sizes[1]:,}, {batch.capacity} |"
        assert row in text
        assert sizes[0] < 50_000
        assert f"at most {single.hostile_bits} bits" in text
    images = -(-1280 * 8 // stated.packing(2048).hostile_bits)  # each has one answer, see test_a_retry_gets_the_same_bytes
    assert f"from fewer than {images} images" in text and f"{images} queries a class" in (ROOT / "docs/private-head.md").read_text()
    assert default_budget() < images
    assert f"from {-(-batch.num_ciphertexts // 86)} images on at 2048 bits" in text
